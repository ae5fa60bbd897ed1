import { useEffect, useState, type ReactNode } from 'react';
import { TextField } from '../../design/field.js';
import { Icon } from '../../design/icon.js';
import { api } from '../../session/api.js';
import { t } from '../../words/words.js';
import { useSettled } from './use-settled.js';

const PATIENCE_MS = 500;

interface UrlFieldProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | undefined;
}

type Verdict = Awaited<ReturnType<typeof api.checkUrl>>;

/** The URL, with what the API says about it: its form, its port, and the addresses of its host. */
export function UrlField({ value, onChange, error }: UrlFieldProps): ReactNode {
  const url = useSettled(value.trim(), PATIENCE_MS);
  const [verdict, setVerdict] = useState<Verdict | null>(null);
  useEffect(() => {
    setVerdict(null);
    // While the scheme is typed, there is nothing to say.
    if (!/^\w+:\/\/\S/.test(url)) return undefined;
    const abort = new AbortController();
    api.checkUrl({ body: { url } }, { signal: abort.signal }).then(setVerdict, () => {
      // Saving tells what is wrong.
    });
    return () => abort.abort();
  }, [url]);
  const isCurrent = url === value.trim();
  const refused = isCurrent && verdict?.allowed === false ? (verdict.detail ?? undefined) : undefined;
  return (
    <TextField
      label={t('listener.url')}
      isCode
      inputMode="url"
      placeholder="https://hooks.example.com/orders"
      maxLength={2048}
      required
      value={value}
      onChange={onChange}
      error={refused ?? error}
      hint={
        isCurrent && verdict?.allowed ? (
          <span className="good">
            <Icon name="check" size={14} />
            {t('editor.url.allowed')}
          </span>
        ) : (
          t('editor.url.hint')
        )
      }
    />
  );
}
