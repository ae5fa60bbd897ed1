import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { Listener } from '../../session/shapes.js';
import { rowsOf, type Row, type Where } from './filter.js';

type CreateBody = OperationTypes['createListener']['input']['body'];
type UpdateBody = OperationTypes['updateListener']['input']['body'];
export type Auth = NonNullable<CreateBody['auth']>;
type Tls = NonNullable<CreateBody['tls']>;

/** What is in the form. */
export interface Draft {
  readonly url: string;
  readonly name: string;
  readonly description: string;
  readonly owner: string;
  readonly events: readonly string[];
  readonly rows: readonly Row[];
  readonly ordering: 'none' | 'entity';
  readonly sequence: boolean;
  readonly format: string;
  /** Whether the listener always gets the newest versions. */
  readonly isLatest: boolean;
  /** The versions that were chosen in the form, by event type. */
  readonly pins: Readonly<Record<string, number>>;
  readonly schemes: readonly string[];
  readonly isLimited: boolean;
  readonly limit: string;
  readonly perSeconds: string;
  readonly headers: readonly Header[];
  readonly handshake: '' | 'none' | 'challenge' | 'cloudevents';
  /** `keep`: what the listener has, which the API never shows. */
  readonly auth: { readonly type: 'keep' | 'none' | Auth['type']; readonly fields: Readonly<Record<string, string>> };
  readonly tls: { readonly type: 'keep' | 'none' | 'set'; readonly fields: Readonly<Record<string, string>> };
}

export interface Header {
  readonly key: number;
  readonly name: string;
  readonly value: string;
}

let keys = 0;
export const newHeader = (name = '', value = ''): Header => ({ key: ++keys, name, value });

/** An empty form. */
export function newDraft(events: readonly string[], format: string): Draft {
  return {
    ...{ url: '', name: '', description: '', owner: '', events, rows: [] },
    ...{ ordering: 'none', sequence: false, format, isLatest: false, pins: {}, schemes: ['standard'] },
    ...{ isLimited: false, limit: '100', perSeconds: '60', headers: [], handshake: '' },
    auth: { type: 'none', fields: {} },
    tls: { type: 'none', fields: {} },
  };
}

/** The form of a listener. */
export function draftOf(listener: Listener): Draft {
  const { url, name, description, owner, events, where, ordering, sequence, format, schemes, rateLimit } = listener;
  return {
    ...{ url, name: name ?? '', description: description ?? '', owner: owner ?? '', events },
    rows: rowsOf(where as Where),
    ...{ ordering, sequence, format, schemes, handshake: listener.handshake },
    ...{ isLatest: listener.versions === 'latest', pins: {} },
    isLimited: rateLimit !== null,
    limit: String(rateLimit?.limit ?? 100),
    perSeconds: String(rateLimit?.perSeconds ?? 60),
    headers: Object.entries(listener.headers).map(([header, value]) => newHeader(header, value)),
    auth: { type: listener.auth === null ? 'none' : 'keep', fields: {} },
    tls: { type: listener.tls === null ? 'none' : 'keep', fields: {} },
  };
}

/** The settings of a form, as the API takes them. */
export function settingsOf(draft: Draft, where: Where): CreateBody {
  const { url, name, description, events, ordering, sequence, format, schemes, handshake, auth, tls } = draft;
  return {
    ...{ url: url.trim(), name: name.trim() || null, description: description.trim() || null },
    ...{ events: [...events], where: where as NonNullable<CreateBody['where']> },
    ...{ ordering, sequence, format, schemes: [...schemes], versions: draft.isLatest ? 'latest' : { ...draft.pins } },
    rateLimit: draft.isLimited ? { limit: Number(draft.limit), perSeconds: Number(draft.perSeconds) } : null,
    headers: headersOf(draft),
    ...(handshake === '' ? {} : { handshake }),
    ...(auth.type === 'keep' ? {} : { auth: authOf(auth) }),
    ...(tls.type === 'keep' ? {} : { tls: tls.type === 'none' ? null : (filled(tls.fields) as Tls) }),
  };
}

/** What is to be changed. A header that is gone is removed by `null`, because the API merges headers. */
export function changesOf(before: Listener, draft: Draft, where: Where): UpdateBody {
  const settings: Record<string, unknown> = { ...settingsOf(draft, where) };
  const old: Readonly<Record<string, unknown>> = { ...before };
  const gone = Object.keys(before.headers).filter((name) => !(name in headersOf(draft)));
  const changed = Object.entries(settings).filter(([key, value]) => {
    // What is secret cannot be compared; `null` says that there is none.
    if (key === 'auth' || key === 'tls') return value !== null || old[key] !== null;
    // An empty choice keeps the versions.
    if (key === 'versions' && isSame(value, {})) return before.versions === 'latest';
    return !isSame(value, old[key]);
  });
  const changes = Object.fromEntries(changed);
  if ('headers' in changes) {
    changes['headers'] = { ...headersOf(draft), ...Object.fromEntries(gone.map((name) => [name, null])) };
  }
  return changes as UpdateBody;
}

/** The chosen versions without those of types that the listener does not receive any more. @param types those that it receives */
export function keptPins(pins: Draft['pins'], types: readonly { readonly type: string }[]): Draft['pins'] {
  const received = new Set(types.map(({ type }) => type));
  return Object.fromEntries(Object.entries(pins).filter(([type]) => received.has(type)));
}

function headersOf({ headers }: Draft): Record<string, string> {
  const named = headers.filter(({ name }) => name.trim() !== '');
  return Object.fromEntries(named.map(({ name, value }) => [name.trim().toLowerCase(), value]));
}

function authOf({ type, fields }: Draft['auth']): Auth | null {
  if (type === 'none') return null;
  if (type !== 'headers') return { type, ...filled(fields) } as Auth;
  return { type, headers: { [(fields['name'] ?? '').trim().toLowerCase()]: fields['value'] ?? '' } };
}

function filled(fields: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ''));
}

/** Whether two values of JSON are the same, in whatever order their keys are. */
export function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, sorted(inner)] as const);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
