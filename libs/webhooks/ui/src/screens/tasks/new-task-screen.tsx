import { useEffect, useState, type ReactNode } from 'react';
import { changeQuery, go, href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { Card, Page } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import { t } from '../../words/words.js';
import { CountCard, type Counted } from './count-card.js';
import { SelectionFields } from './selection-fields.js';
import {
  bodyOf,
  FIELDS,
  KINDS,
  kindsFor,
  localTime,
  type Field,
  type TaskInput,
  type TaskKind,
  type Values,
} from './task-kinds.js';

const DAY = 86_400_000;
const TYPING_MS = 300;

/** What to do, with which deliveries, and how many these are: in this order. */
export function NewTaskScreen(): ReactNode {
  const kinds = kindsFor(useCan());
  const crumbs = [{ text: t('tasks.title'), href: href('/tasks') }];
  if (kinds.length === 0) {
    return (
      <Page title={t('tasks.new')} crumbs={crumbs}>
        <Card>
          <Empty
            icon="lock"
            title={t('failure.forbidden')}
            text={t('failure.forbidden.text')}
            action={<LinkButton href={href('/tasks')}>{t('tasks.title')}</LinkButton>}
          />
        </Card>
      </Page>
    );
  }
  return (
    <Page title={t('tasks.new')} subtitle={t('task.new.text')} crumbs={crumbs}>
      <Form kinds={kinds} />
    </Page>
  );
}

function Form({ kinds }: { readonly kinds: readonly TaskKind[] }): ReactNode {
  const { query } = usePlace();
  const kind = kinds.find((one) => one === query.get('kind')) ?? (kinds[0] as TaskKind);
  const [values, setValues] = useState<Values>(() => valuesOf(query));
  useEffect(() => {
    // A reload keeps the form, and a link can fill it.
    const timer = setTimeout(() => changeQuery({ ...NONE, ...values }, '/tasks/new'), TYPING_MS);
    return () => clearTimeout(timer);
  }, [values]);
  const body = bodyOf(kind, values);
  const change = (field: Field, value: string) => setValues((before) => ({ ...before, [field]: value }));
  const { counted, isStale, isBusy, run } = useCount(body);
  return (
    <form
      className="task-form"
      onSubmit={(event) => {
        event.preventDefault();
        void run();
      }}
    >
      <div className="stack">
        <KindCard
          kinds={kinds}
          kind={kind}
          onChange={(next) => {
            change('states', '');
            changeQuery({ kind: next });
          }}
        />
        {KINDS[kind].fields.length > 0 && (
          <Card title={t('task.which')}>
            <SelectionFields kind={kind} values={values} onChange={change} />
          </Card>
        )}
      </div>
      <CountCard
        body={body}
        counted={counted}
        isStale={isStale}
        countButton={
          <Button
            type="submit"
            icon="search"
            kind={counted === null || isStale ? 'primary' : 'secondary'}
            isBusy={isBusy}
          >
            {t('task.count')}
          </Button>
        }
        onCreated={(id) => go(href(`/tasks/${id}`))}
      />
    </form>
  );
}

/** How much a task would do, once somebody has asked. */
function useCount(body: TaskInput) {
  const [counted, setCounted] = useState<Counted | null>(null);
  const key = JSON.stringify(body);
  const { isBusy, run } = useAction(t('task.not-counted'), async () => {
    const answer = await api.createTask({ body: { ...body, dryRun: true } }).catch((error: unknown) => {
      setCounted(null);
      throw error;
    });
    if ('count' in answer) setCounted({ ...answer, key });
  });
  return { counted, isStale: counted !== null && counted.key !== key, isBusy, run };
}

interface KindCardProps {
  readonly kinds: readonly TaskKind[];
  readonly kind: TaskKind;
  readonly onChange: (kind: TaskKind) => void;
}

function KindCard({ kinds, kind, onChange }: KindCardProps): ReactNode {
  return (
    <Card title={t('task.kind')}>
      <div className="choices" role="radiogroup" aria-label={t('task.kind')}>
        {kinds.map((one) => (
          <label key={one} className={one === kind ? 'choice is-chosen' : 'choice'}>
            <input type="radio" name="kind" checked={one === kind} onChange={() => onChange(one)} />
            <span>
              <span className="strong">{t(`tasks.kind.${one}`)}</span>
              <span className="hint">{t(`tasks.kind.${one}.text`)}</span>
            </span>
          </label>
        ))}
      </div>
    </Card>
  );
}

const NONE = Object.fromEntries(FIELDS.map((field) => [field, null])) as Readonly<Record<Field, null>>;

/** The fields that the URL sets; without a time, the last 24 hours. Links have times with a zone, and fields have local ones. */
function valuesOf(query: URLSearchParams): Values {
  const given = FIELDS.map((field) => [field, query.get(field)] as const).filter(([, value]) => Boolean(value));
  const values = Object.fromEntries(given) as Values;
  const times = Object.fromEntries(
    (['since', 'until'] as const)
      .filter((field) => values[field]?.endsWith('Z'))
      .map((field) => [field, localTime(new Date(values[field] as string))]),
  );
  return { since: localTime(new Date(Date.now() - DAY)), ...values, ...times };
}
