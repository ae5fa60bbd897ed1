// Misspelt on purpose. cspell:ignore udpated invioce overdeu statos statuss
import { describe, expect, it } from 'vitest';
import { knownNames, listedNames, nearestName } from '../../libs/webhooks/src/known-names.js';

const TYPES = ['order.created', 'order.updated', 'order.deleted', 'invoice.overdue'];

describe('an unknown name', () => {
  it.each([
    ['orders.updated', 'order.updated'],
    ['order.udpated', 'order.updated'],
    ['Order.Updated', 'order.updated'],
    ['order.update', 'order.updated'],
    ['invioce.overdeu', 'invoice.overdue'],
  ])('%s gets the suggestion %s', (given, meant) => {
    expect(nearestName(given, TYPES)).toBe(meant);
  });

  it.each(['payment.failed', 'order.paid', 'x', '', 'ordered', 'x'.repeat(10_000)])(
    '%.20s gets no suggestion',
    (given) => {
      expect(nearestName(given, TYPES)).toBeUndefined();
    },
  );

  it('gets the nearest of several names as suggestion', () => {
    expect(nearestName('statos', ['stats', 'status', 'state'])).toBe('stats');
    expect(nearestName('statuss', ['stats', 'status', 'state'])).toBe('status');
  });

  it('gets a short list of known names', () => {
    expect(knownNames('order.paid', TYPES)).toBe(
      ' Known: order.created, order.updated, order.deleted, invoice.overdue.',
    );
    expect(knownNames('x', [])).toBe(' Known: none.');
    const many = Array.from({ length: 5_000 }, (_, n) => `type_${n}.created`);
    expect(knownNames('type_7.create', many)).toMatch(
      /^ Did you mean 'type_7\.created'\? Known: type_0.* and 4980 more\.$/,
    );
    expect(listedNames(many)).toHaveLength(20);
    const long = Array.from({ length: 30 }, (_, n) => 'x'.repeat(2_000) + n);
    expect(knownNames('y', long).length).toBeLessThan(600);
  });

  it('costs at most a thousand comparisons of short names, however many names are known', () => {
    const many = Array.from({ length: 100_000 }, (_, n) => `${'long_name_'.repeat(5)}${n}`);
    const before = performance.now();
    for (let n = 0; n < 10; n++) nearestName(`${'long_name_'.repeat(5)}x`, many);
    // 100,000 names would take 100 times as long.
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});
