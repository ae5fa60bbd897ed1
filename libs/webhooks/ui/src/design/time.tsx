import { useEffect, useReducer, type ReactNode } from 'react';
import { absolute, clockTime, relative, zone } from '../words/dates.js';
import { t } from '../words/words.js';

const MINUTE = 60_000;

function utc(at: string): string {
  return `${at.replace('T', ' ').replace(/\.\d+Z$/, '')} UTC`;
}

/** `3 min. ago`; the exact time in UTC when one points at it. */
export function Ago({ at }: { readonly at: string }): ReactNode {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    const timer = setInterval(redraw, MINUTE / 4);
    return () => clearInterval(timer);
  }, []);
  return (
    <time dateTime={at} title={`${absolute(at)} · ${utc(at)}`} className="nowrap">
      {relative(at)}
    </time>
  );
}

/** When something is to happen. What should have happened already is due now. */
export function Upcoming({ at }: { readonly at: string | null }): ReactNode {
  if (at === null) return <span className="muted">–</span>;
  return new Date(at).getTime() <= Date.now() ? <span>{t('time.now')}</span> : <Ago at={at} />;
}

/** The time of a row in a log: the time alone if it is today. */
export function Clock({ at }: { readonly at: string }): ReactNode {
  return (
    <time dateTime={at} title={`${absolute(at)} · ${utc(at)}`} className="secondary nowrap">
      {clockTime(at)}
    </time>
  );
}

/** The full time in the zone of the browser. */
export function At({ at }: { readonly at: string }): ReactNode {
  return (
    <time dateTime={at} title={`${utc(at)} · ${zone()}`}>
      {absolute(at)}
    </time>
  );
}
