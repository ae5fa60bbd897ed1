import type { ReactNode } from 'react';
import type { Attempt } from '../../session/shapes.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';

/** The steps that have a time. The rest is waiting for a connection or a token, and the body. */
function stepsOf({ phases, durationMs }: Attempt): readonly (readonly [key: Step, ms: number])[] {
  const { dnsMs = null, connectMs = null, tlsMs = null, firstByteMs = null } = phases ?? {};
  const known = (dnsMs ?? 0) + (connectMs ?? 0) + (tlsMs ?? 0) + (firstByteMs ?? 0);
  const steps = [
    ['dns', dnsMs],
    ['connect', connectMs],
    ['tls', tlsMs],
    ['first-byte', firstByteMs],
    ['rest', durationMs === null ? null : Math.max(0, durationMs - known)],
  ] as const;
  return steps.flatMap(([key, ms]) => (ms === null ? [] : [[key, ms] as const]));
}

type Step = 'dns' | 'connect' | 'tls' | 'first-byte' | 'rest';

/** See charts.css. */
const COLOURS: Readonly<Record<Step, string>> = {
  ...{ dns: 'bar-3', connect: 'bar-1', tls: 'bar-5', 'first-byte': 'bar-answer', rest: 'bar-4' },
};

/** A bar with the steps of an attempt. The same times are a list, for everybody who cannot see the bar. */
export function AttemptPhases({ attempt }: { readonly attempt: Attempt }): ReactNode {
  const { phases } = attempt;
  if (phases === null) return null;
  const steps = stepsOf(attempt);
  return (
    <div className="phases">
      <div className="phases-bar" aria-hidden="true">
        {steps.map(([key, ms]) => (
          <span key={key} className={COLOURS[key]} style={{ flexGrow: ms }} />
        ))}
      </div>
      <ul className="phases-list" aria-label={t('phases.title')}>
        {steps.map(([key, ms]) => (
          <li key={key}>
            <span className={`legend-mark ${COLOURS[key]}`} aria-hidden="true" />
            <span className="secondary">{t(`phases.${key}`)}</span> <span className="strong">{duration(ms)}</span>
          </li>
        ))}
      </ul>
      {phases.connection !== 'new' && <p className="muted">{t(`phases.${phases.connection}`)}</p>}
    </div>
  );
}
