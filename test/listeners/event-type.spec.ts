import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BadRequestError, ConfigurationError } from '../../libs/webhooks/src/errors.js';
import {
  assertEventType,
  assertPattern,
  matchesPattern,
  patternsMatching,
  snakeCase,
} from '../../libs/webhooks/src/events/event-type.js';

const type = fc
  .array(fc.constantFrom('order', 'orders', 'item', 'a_1', 'created'), { minLength: 1, maxLength: 4 })
  .map((words) => words.join('.'));
const pattern = fc.oneof(
  type,
  type.map((prefix) => `${prefix}.*`),
  fc.constant('*'),
);

describe('an event type', () => {
  it.each(['order', 'order.created', 'order_item.created', 'a.b.c.d', '2', '_', 'x'.repeat(128)])(
    'may be %s',
    (text) => {
      expect(() => assertEventType(text)).not.toThrow();
    },
  );

  it.each([
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    'Order',
    'order created',
    'order-created',
    'größe',
    'a\n',
    '*',
    'a.*',
    'x'.repeat(129),
  ])('may not be %j', (text) => {
    expect(() => assertEventType(text)).toThrow(expect.objectContaining({ code: 'INVALID_EVENT_TYPE' }));
  });

  it.each([[undefined], [null], [5], [{}], [['order.created']]])('may not be %o, which is no text', (value) => {
    expect(() => assertEventType(value)).toThrow(BadRequestError);
  });

  it('is a ConfigurationError if the caller asks for it', () => {
    expect(() => assertEventType('Order', 'configuration')).toThrow(ConfigurationError);
    expect(() => assertEventType('Order', 'configuration')).not.toThrow(BadRequestError);
  });

  it('is cut in the error if it is long', () => {
    expect(() => assertEventType('X'.repeat(5000))).toThrow(/^.{0,400}$/);
  });
});

describe('a pattern', () => {
  it.each(['*', 'order.*', 'order.item.*', 'order.created', `${'x'.repeat(126)}.*`])('may be %s', (text) => {
    expect(() => assertPattern(text)).not.toThrow();
  });

  it.each([
    '',
    '**',
    '.*',
    'order*',
    '*.created',
    'order.*.created',
    'order.*.*',
    'Order.*',
    `${'x'.repeat(127)}.*`,
    7,
  ])('may not be %j', (text) => {
    expect(() => assertPattern(text)).toThrow(expect.objectContaining({ code: 'INVALID_EVENT_TYPE', httpStatus: 400 }));
  });

  it('with a prefix matches every type below the prefix, but neither the prefix itself nor similar types', () => {
    expect(matchesPattern('order.*', 'order.created')).toBe(true);
    expect(matchesPattern('order.*', 'order.item.created')).toBe(true);
    expect(matchesPattern('order.*', 'order')).toBe(false);
    expect(matchesPattern('order.*', 'orders.created')).toBe(false);
    expect(matchesPattern('order.*', 'my.order.created')).toBe(false);
  });

  it('without a wildcard matches only this type', () => {
    expect(matchesPattern('order.created', 'order.created')).toBe(true);
    expect(matchesPattern('order.created', 'order.created.late')).toBe(false);
    expect(matchesPattern('order.created', 'order_created')).toBe(false);
  });

  it('is listed for a type exactly when it matches', () => {
    expect(patternsMatching('order.item.created')).toEqual(['order.item.created', 'order.item.*', 'order.*', '*']);
    expect(patternsMatching('order')).toEqual(['order', '*']);
    fc.assert(
      fc.property(pattern, type, (p, t) => {
        expect(patternsMatching(t).includes(p)).toBe(matchesPattern(p, t));
      }),
    );
  });

  it('that is listed for a type is valid', () => {
    fc.assert(fc.property(type, (t) => patternsMatching(t).forEach((p) => assertPattern(p))));
  });
});

describe('the name made from a class name', () => {
  it.each([
    ['OrderItem', 'order_item'],
    ['HTTPLog', 'http_log'],
    ['Order2', 'order2'],
    ['Order2Item', 'order2_item'],
    ['Order', 'order'],
    ['order', 'order'],
    ['UserID', 'user_id'],
    ['Order_Item', 'order_item'],
    ['ABTest', 'ab_test'],
    ['X', 'x'],
  ])('%s is %s', (className, name) => {
    expect(snakeCase(className)).toBe(name);
    expect(() => assertEventType(`${name}.created`)).not.toThrow();
  });

  it('is not a valid type if it has letters outside ASCII, so the bootstrap requires a name', () => {
    expect(() => assertEventType(snakeCase('Größe'), 'configuration')).toThrow(ConfigurationError);
  });
});
