import { compareSequences } from '../database/sequence.js';

/**
 * Writes sequences as text: `4-9,12`. The events of a batch usually have consecutive sequences, so the text is short. It names exactly these
 * sequences: a sequence between two of them may belong to a transaction that is not committed yet.
 */
export function toRuns(seqs: Iterable<string>): string {
  const runs: [first: string, last: string][] = [];
  for (const seq of [...seqs].toSorted(compareSequences)) {
    const run = runs.at(-1);
    if (run && BigInt(run[1]) + 1n === BigInt(seq)) run[1] = seq;
    else runs.push([seq, seq]);
  }
  return runs.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(',');
}

/** Reads the text of {@link toRuns}. */
export function* fromRuns(text: string): Generator<string> {
  if (text === '') return;
  for (const run of text.split(',')) {
    const [first, last = first] = run.split('-') as [string, string?];
    for (let seq = BigInt(first); seq <= BigInt(last); seq++) yield String(seq);
  }
}
