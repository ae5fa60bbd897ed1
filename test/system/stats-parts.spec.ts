import { describe, expect, it } from 'vitest';
import {
  addParts,
  countPart,
  partsText,
  readParts,
  type StatsParts,
} from '../../libs/webhooks/src/store/system/stats-parts.js';

const counts = (accepted: number, rejected = 0, unreachable = 0, blocked = 0) => ({
  ...{ accepted, rejected, unreachable, blocked },
});

describe('figures by type and by error as a text', () => {
  it('are read as they were, also after another text was appended', () => {
    const parts: StatsParts = new Map();
    for (let n = 0; n < 5; n++) countPart(parts, 'order.updated', 'accepted');
    countPart(parts, 'order.updated', 'unreachable');
    countPart(parts, 'TIMEOUT', 'unreachable');
    const text = partsText(parts);
    expect(text).toBe('order.updated 5 0 1;TIMEOUT 0 0 1;');
    expect(readParts(text)).toEqual(parts);
    const twice = readParts(`${text}${text}`);
    expect([...twice]).toEqual([
      ['order.updated', counts(10, 0, 2)],
      ['TIMEOUT', counts(0, 0, 2)],
    ]);
    addParts(parts, parts);
    expect(twice).toEqual(parts);
  });

  it('are no text without attempts, and a text is empty figures if it is missing', () => {
    expect(partsText(new Map())).toBeNull();
    expect(readParts(null)).toEqual(new Map());
  });

  it('leave out codes of a custom transport that would break the text', () => {
    const parts: StatsParts = new Map();
    for (const code of ['NO SPACE', 'A;B', '', 'X'.repeat(65)]) countPart(parts, code, 'unreachable');
    expect(parts.size).toBe(0);
  });

  it('have the 64 most frequent types and the 64 most frequent codes', () => {
    const parts: StatsParts = new Map();
    for (let n = 0; n < 100; n++) {
      for (let times = 0; times <= n; times++) {
        countPart(parts, `type.t${n}`, 'accepted');
        countPart(parts, `CODE_${n}`, 'rejected');
      }
    }
    const kept = readParts(partsText(parts));
    expect(kept.size).toBe(128);
    expect([kept.get('type.t99'), kept.get('CODE_36')]).toEqual([counts(100), counts(0, 37)]);
    expect([kept.has('type.t35'), kept.has('CODE_35')]).toEqual([false, false]);
  });
});
