import type { ReactNode } from 'react';
import { t } from '../words/words.js';
import { Copy } from './copy.js';

interface CodeProps {
  readonly text: string;
  /** Says what it is, for people who do not see it. */
  readonly label: string;
  readonly isWrapped?: boolean;
}

/** A block of text from elsewhere: shown as it is, whatever it contains. */
export function Code({ text, label, isWrapped = true }: CodeProps): ReactNode {
  return (
    <div className={isWrapped ? 'code wrap' : 'code'}>
      <pre tabIndex={0} aria-label={label} role="region">
        {visible(text)}
      </pre>
      <span className="code-copy">
        <Copy text={text} />
      </span>
    </div>
  );
}

/** A JSON document with colours; lines of changed fields stand out. Above this size the colours would make the page slow. */
const MAX_COLOURED = 100_000;

export function Json({
  value,
  label,
  changed = [],
}: {
  readonly value: unknown;
  readonly label: string;
  readonly changed?: readonly string[];
}): ReactNode {
  const text = JSON.stringify(value, null, 2) ?? '';
  if (text.length > MAX_COLOURED) return <Code text={text} label={label} />;
  const marks = changed.map((name) => `  ${JSON.stringify(name)}:`);
  let isMarked = false;
  return (
    <div className="code wrap">
      <pre tabIndex={0} aria-label={label} role="region">
        {text.split('\n').map((line, index) => {
          // Fields of the first level begin with two spaces.
          if (/^ {2}["}\]]/.test(line)) isMarked = marks.some((mark) => line.startsWith(mark));
          return isMarked ? (
            <mark key={index} className="json-changed">
              <Line text={line} />
            </mark>
          ) : (
            <span key={index}>
              <Line text={line} />
              {'\n'}
            </span>
          );
        })}
      </pre>
      <span className="code-copy">
        <Copy text={text} />
      </span>
    </div>
  );
}

const PARTS = /^(\s*)("(?:[^"\\]|\\.)*":)?(\s*)(.*)$/s;

function Line({ text }: { readonly text: string }): ReactNode {
  const [, indent = '', key = '', space = '', rest = ''] = PARTS.exec(text) ?? [];
  const kind = rest.startsWith('"') ? 'json-text' : /^(?:[-\d]|true|false|null)/.test(rest) ? 'json-other' : undefined;
  return (
    <>
      {indent}
      {key && <span className="json-key">{visible(key)}</span>}
      {space}
      {kind === undefined ? rest : <span className={kind}>{visible(rest)}</span>}
    </>
  );
}

/** Characters that change the direction of text, or that nobody can see. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Shows invisible characters by their number, so that no text can look like another. */
export function visible(text: string): string {
  return text.replaceAll(INVISIBLE, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

export function Nothing(): ReactNode {
  return <span className="muted">{t('app.none')}</span>;
}
