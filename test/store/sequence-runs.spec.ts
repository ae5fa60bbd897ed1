import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareSequences } from '../../libs/webhooks/src/store/database/sequence.js';
import { fromRuns, toRuns } from '../../libs/webhooks/src/store/outbox/sequence-runs.js';

describe('the text that names sequences', () => {
  it.each([
    { seqs: [], text: '' },
    { seqs: ['7'], text: '7' },
    { seqs: ['9', '8', '10', '12'], text: '8-10,12' },
    // Neighbours that JavaScript numbers cannot tell apart.
    { seqs: ['9007199254740993', '9007199254740992'], text: '9007199254740992-9007199254740993' },
  ])('is $text for $seqs', ({ seqs, text }) => {
    expect(toRuns(seqs)).toBe(text);
    expect([...fromRuns(text)]).toEqual(seqs.toSorted(compareSequences));
  });

  it('names exactly the given sequences', () => {
    const sequences = fc.uniqueArray(fc.oneof(fc.bigInt(0n, 40n), fc.bigInt(0n, 2n ** 63n - 1n)), { maxLength: 60 });
    fc.assert(
      fc.property(sequences, (given) => {
        const seqs = given.map(String);
        expect([...fromRuns(toRuns(seqs))]).toEqual(seqs.toSorted(compareSequences));
      }),
    );
  });
});
