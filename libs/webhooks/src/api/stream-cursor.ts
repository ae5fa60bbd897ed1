import { invalidRequest } from './api-error.js';

/** A position of each source, by its key. */
export type Positions = Readonly<Record<string, number>>;

/** Up to where a reader has everything. */
export interface StreamCursor {
  /** When the process wrote it, in ms since 1970. */
  readonly at: number;
  readonly positions: Positions;
}

const FORM = /^t(\d{1,16})((?:\.[a-z]+\d{1,16})*)$/;

/** As the id of an event: `Last-Event-ID` brings it back. */
export function writeCursor({ at, positions }: StreamCursor): string {
  const parts = Object.entries(positions).map(([key, position]) => `.${key}${Math.max(0, position)}`);
  return Buffer.from(`t${Math.max(0, at)}${parts.join('')}`).toString('base64url');
}

/** @throws ApiError `INVALID_REQUEST` */
export function readCursor(text: string): StreamCursor {
  const [, at, parts = ''] = FORM.exec(Buffer.from(text.slice(0, 256), 'base64url').toString()) ?? [];
  if (at === undefined) {
    throw invalidRequest([
      { parameter: 'Last-Event-ID', detail: 'must be the id of an event of this stream, unchanged' },
    ]);
  }
  const positions = [...parts.matchAll(/\.([a-z]+)(\d+)/g)].map(([, key = '', position]) => [key, Number(position)]);
  return { at: Number(at), positions: Object.fromEntries(positions) as Positions };
}
