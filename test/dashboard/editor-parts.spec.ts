import { describe, expect, it } from 'vitest';
import {
  changesOf,
  draftOf,
  keptPins,
  newDraft,
  newHeader,
  settingsOf,
} from '../../libs/webhooks/ui/src/screens/editor/draft.js';
import { newRow, rowsOf, whereOf, type Kind, type Where } from '../../libs/webhooks/ui/src/screens/editor/filter.js';
import type { Listener } from '../../libs/webhooks/ui/src/session/shapes.js';

const KINDS: Readonly<Record<string, Kind>> = { status: 'text', total: 'number', isPaid: 'yes-no' };
const kindOf = (path: string): Kind => KINDS[path] ?? 'unknown';

describe('the rows of a filter', () => {
  it.each([
    {},
    { status: 'paid' },
    { status: '5', code: 5, other: '5' },
    { status: { changedTo: 'paid', changedFrom: null }, total: { gte: '100.00', lt: 1000 } },
    { status: { in: ['a, b', 'c'] }, codes: { in: [1, '1', true, null] } },
    { 'address.city': 'Lyon', 'door.exists': true, text: 'null', empty: '' },
    { cancelledAt: { exists: false }, isPaid: false, total: { changed: true } },
  ] satisfies Where[])('give back %j', (where) => {
    expect(whereOf(rowsOf(where), kindOf)).toEqual(where);
  });

  it('mean the same for nested objects', () => {
    expect(whereOf(rowsOf({ address: { city: { ne: 'Lyon' }, zip: '1' } }), kindOf)).toEqual({
      'address.city': { ne: 'Lyon' },
      'address.zip': '1',
    });
  });

  it.each([
    ['status', 'equals', '5', '5'],
    ['total', 'equals', '5', 5],
    ['total', 'equals', '100.00', '100.00'],
    ['total', 'equals', '12345678901234567890', '12345678901234567890'],
    ['isPaid', 'equals', '', true],
    ['isPaid', 'equals', 'false', false],
    ['other', 'equals', '5', 5],
    ['other', 'equals', 'true', true],
    ['other', 'equals', '05', '05'],
    ['status', 'equals', 'null', null],
    ['status', 'in', 'a, b,', { in: ['a', 'b'] }],
    ['total', 'in', '1,2.50', { in: [1, '2.50'] }],
    ['status', 'exists', 'false', { exists: false }],
    ['status', 'changed', 'true', { changed: true }],
  ] as const)('read what is typed: %s %s %j', (path, operator, text, expected) => {
    expect(whereOf([{ ...newRow(path), operator, text }], kindOf)).toEqual({ [path]: expected });
  });

  it('keep several conditions of one property, and leave out rows without a property', () => {
    const rows = [
      { ...newRow('total'), operator: 'gte', text: '1' },
      { ...newRow('total'), operator: 'lt', text: '9' },
      newRow(' '),
    ] as const;
    expect(whereOf(rows, kindOf)).toEqual({ total: { gte: 1, lt: 9 } });
  });
});

const LISTENER = {
  ...{ id: 'lst_1', url: 'https://a.test/', name: 'A', description: null, owner: 'acme', events: ['order.*'] },
  ...{ where: { b: 1, a: { gt: 2, lt: 3 } }, headers: { 'x-a': '1', 'x-b': '2' }, schemes: ['standard'] },
  ...{ format: 'standard', ordering: 'none', sequence: false, rateLimit: { perSeconds: 60, limit: 5 } },
  versions: { 'order.updated': 1 },
  ...{ handshake: 'none', auth: { type: 'bearer', token: '***' }, tls: null },
} as unknown as Listener;

describe('the form of a listener', () => {
  const draft = draftOf(LISTENER);
  const where = whereOf(draft.rows, kindOf);

  it('changes nothing if nothing was changed', () => {
    expect(changesOf(LISTENER, draft, where)).toEqual({});
  });

  it('names what was changed only, and removes a header by null', () => {
    const headers = [newHeader('X-A', '1'), newHeader('x-c', '3'), newHeader('', 'left out')];
    expect(changesOf(LISTENER, { ...draft, name: ' ', isLimited: false, headers }, {})).toEqual({
      ...{ name: null, rateLimit: null, where: {} },
      headers: { 'x-a': '1', 'x-c': '3', 'x-b': null },
    });
  });

  it('keeps credentials unless they are given or removed', () => {
    const changed = (auth: typeof draft.auth) => changesOf(LISTENER, { ...draft, auth }, where);
    expect(changed({ type: 'none', fields: {} })).toEqual({ auth: null });
    expect(changed({ type: 'bearer', fields: { token: 'secret' } })).toEqual({
      auth: { type: 'bearer', token: 'secret' },
    });
    expect(changed({ type: 'headers', fields: { name: 'X-Key', value: 'k' } })).toEqual({
      auth: { type: 'headers', headers: { 'x-key': 'k' } },
    });
  });

  it('moves only the versions that are chosen', () => {
    expect(changesOf(LISTENER, { ...draft, pins: { 'order.created': 2 } }, where)).toEqual({
      versions: { 'order.created': 2 },
    });
    expect(changesOf(LISTENER, { ...draft, isLatest: true }, where)).toEqual({ versions: 'latest' });
    const latest: Listener = { ...LISTENER, versions: 'latest' };
    expect(changesOf(latest, draftOf(latest), where)).toEqual({});
    expect(changesOf(latest, { ...draftOf(latest), isLatest: false }, where)).toEqual({ versions: {} });
  });

  it('forgets the chosen version of a type that is not received any more', () => {
    const pins = { 'order.created': 1, 'order.updated': 2 };
    expect(keptPins(pins, [{ type: 'order.created' }, { type: 'order.deleted' }])).toEqual({ 'order.created': 1 });
  });

  it('of a new listener has every default', () => {
    expect(settingsOf({ ...newDraft(['order.*'], 'standard'), url: ' https://a.test/ ' }, {})).toEqual({
      ...{ url: 'https://a.test/', name: null, description: null, events: ['order.*'], where: {} },
      ...{ ordering: 'none', sequence: false, format: 'standard', versions: {}, schemes: ['standard'] },
      ...{ rateLimit: null, headers: {}, auth: null, tls: null },
    });
  });
});
