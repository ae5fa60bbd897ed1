import { invalidRequest } from './api-error.js';

/** The position in each source, by the key of the source. */
export type Positions = Readonly<Record<string, number>>;

/** A reader has received every change up to these positions. */
export interface StreamCursor {
  /** When the process wrote it, in ms since 1970. */
  readonly at: number;
  readonly positions: Positions;
}

const FORM = /^t(\d{1,16})((?:\.[a-z]+\d{1,16})*)$/;

/** The cursor as the `id` of an event. A client returns it in `Last-Event-ID`. */
export function writeCursor({ at, positions }: StreamCursor): string {
  const parts = Object.entries(positions).map(([key, position]) => `.${key}${Math.max(0, position)}`);
  return Buffer.from(`t${Math.max(0, at)}${parts.join('')}`).toString('base64url');
}

/** @throws ApiError `INVALID_REQUEST` */
export function readCursor(text: string): StreamCursor {
  const [, at, parts = ''] = FORM.exec(Buffer.from(text.slice(0, 4_096), 'base64url').toString()) ?? [];
  if (at === undefined) {
    throw invalidRequest([
      { parameter: 'Last-Event-ID', detail: 'must be the id of an event of this stream, unchanged' },
    ]);
  }
  const positions = [...parts.matchAll(/\.([a-z]+)(\d+)/g)].map(([, key = '', position]) => [key, Number(position)]);
  return { at: Number(at), positions: Object.fromEntries(positions) as Positions };
}
