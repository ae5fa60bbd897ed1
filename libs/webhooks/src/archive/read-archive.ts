import { StringDecoder } from 'node:string_decoder';
import { BadRequestError } from '../errors.js';
import { invalidValue } from '../show.js';
import { ARCHIVE_VERSION, type ArchivedEvent, type ArchiveEnd, type ArchiveLine } from './archive-lines.js';

/** The text of a file, in pieces of any length, such as a stream. Buffers are UTF-8. */
export type ArchiveSource = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;

/** A longer line cannot come from an archive: the text of an event is much shorter. */
const LONGEST_LINE = 64 * 1_024 * 1_024;

/**
 * Reads the events of one or more files. Each line is checked before its event is returned.
 *
 * @throws BadRequestError `INVALID_ARCHIVE`, with the number of the line in `details.line`
 */
export async function* readArchive(source: ArchiveSource): AsyncGenerator<ArchivedEvent> {
  let line = 0;
  let counts: Counts | null = null;
  for await (const text of linesOf(source)) {
    line++;
    if (text === '') continue;
    const read = parse(text, line);
    counts = counted(counts, read, line);
    if (read.kind === 'event') yield read;
  }
  if (counts) throw invalid(line + 1, 'the file ends here, without its last line. Get the complete file');
  if (line === 0) throw invalid(1, 'the file is empty. Name a file that the archive has stored');
}

type Counts = Record<'event' | 'delivery' | 'attempt', number>;

/** Counts the lines of a file. @returns `null` after its last line */
function counted(counts: Counts | null, read: ArchiveLine, line: number): Counts | null {
  if (read.kind === 'archive') {
    if (counts) throw invalid(line, 'another file begins here, and the file before it is incomplete');
    if (read.version === ARCHIVE_VERSION) return { event: 0, delivery: 0, attempt: 0 };
    throw invalid(
      line,
      `${invalidValue('version', read.version, String(ARCHIVE_VERSION))} Update nestjs-entity-webhooks`,
    );
  }
  if (!counts) throw invalid(line, "a file begins with a line of the kind 'archive', and this line has another kind");
  if (read.kind !== 'end') {
    counts[read.kind]++;
    return counts;
  }
  const expected: Omit<ArchiveEnd, 'kind'> = {
    events: counts.event,
    deliveries: counts.delivery,
    attempts: counts.attempt,
  };
  for (const key of ['events', 'deliveries', 'attempts'] as const) {
    if (read[key] !== expected[key])
      throw invalid(line, `the file should have ${read[key]} ${key}, and has ${expected[key]}`);
  }
  return null;
}

function parse(text: string, line: number): ArchiveLine {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    throw invalid(line, 'it is not JSON');
  }
  if (typeof given !== 'object' || given === null) throw invalid(line, 'it is not a JSON object');
  const read = given as ArchiveLine;
  if (!KINDS.includes(read.kind)) throw invalid(line, invalidValue('kind', read.kind, KINDS.join(', ')));
  if (read.kind !== 'event') return read;
  for (const [key, { isAllowed, allowed }] of Object.entries(EVENT)) {
    const value = (read as unknown as Record<string, unknown>)[key];
    if (!isAllowed(value)) throw invalid(line, invalidValue(key, value, allowed));
  }
  return read;
}

const KINDS = ['archive', 'event', 'delivery', 'attempt', 'end'];

interface Rule {
  readonly isAllowed: (value: unknown) => boolean;
  readonly allowed: string;
}

const isShort = (value: unknown) => typeof value === 'string' && value !== '' && value.length <= 255;
const isTextOrNull = (value: unknown) => value === null || typeof value === 'string';
const isList = (value: unknown) => Array.isArray(value) && value.every((one) => typeof one === 'string');
const isTime = (value: unknown) => typeof value === 'string' && !Number.isNaN(Date.parse(value));
const textOrNull: Rule = { isAllowed: isTextOrNull, allowed: 'a text or null' };
const AUDIENCES = ['application', 'owner', 'owner_only', 'every', 'test'];

const EVENT: Readonly<Record<Exclude<keyof ArchivedEvent, 'kind'>, Rule>> = {
  id: {
    isAllowed: (value) => typeof value === 'string' && /^evt_[0-9a-f-]{36}$/.test(value),
    allowed: 'evt_ and a UUID',
  },
  type: { isAllowed: isShort, allowed: '1 to 255 characters' },
  superTypes: { isAllowed: isList, allowed: 'a list of event types' },
  audience: { isAllowed: (value) => AUDIENCES.includes(value as string), allowed: AUDIENCES.join(', ') },
  owner: { isAllowed: (value) => value === null || isShort(value), allowed: '1 to 255 characters, or null' },
  orderKey: {
    isAllowed: (value) => value === null || (typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)),
    allowed: '32 hexadecimal digits, or null',
  },
  ordered: { isAllowed: (value) => typeof value === 'boolean', allowed: 'true, false' },
  timestamp: { isAllowed: isTime, allowed: 'a time in ISO 8601' },
  payload: textOrNull,
  thinPayload: textOrNull,
  droppedFields: { isAllowed: (value) => value === null || isList(value), allowed: 'a list of fields, or null' },
  context: textOrNull,
  erasedAt: { isAllowed: (value) => value === null || isTime(value), allowed: 'a time in ISO 8601, or null' },
  damaged: textOrNull,
};

/** @param what is wrong, and what to do; without a period at its end */
function invalid(line: number, what: string): BadRequestError {
  const end = what.endsWith('.') ? '' : '.';
  return new BadRequestError('INVALID_ARCHIVE', `Line ${line} of the archive is invalid: ${what}${end}`, {
    details: { line },
  });
}

async function* linesOf(source: ArchiveSource): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let lines = 0;
  for await (const piece of source) {
    rest += typeof piece === 'string' ? piece : decoder.write(Buffer.from(piece));
    const complete = rest.split('\n');
    rest = complete.pop() ?? '';
    lines += complete.length;
    yield* complete;
    if (rest.length > LONGEST_LINE) throw invalid(lines + 1, `it is longer than ${LONGEST_LINE} characters`);
  }
  rest += decoder.end();
  if (rest !== '') yield rest;
}
