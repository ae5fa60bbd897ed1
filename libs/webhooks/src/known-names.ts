/** An error lists at most this many names. */
const MAX_LISTED = 20;
/** Maximum length of a list of names, in characters. */
const MAX_LIST_LENGTH = 500;
/** A given name is compared with at most this many known names, because the caller's input decides how often this runs. */
const MAX_COMPARED = 1_000;
const MAX_COMPARED_LENGTH = 64;

/**
 * The end of an error message about an unknown name: a suggestion, and a short list of the known names.
 *
 * @param given the unknown name. This name is foreign text, so the result does not contain it
 * @param known the names that the reader of the error may see
 * @param nearby more names that may be suggested, but are not listed
 * @example ` Did you mean 'order.updated'? Known: order.created, order.updated.`
 */
export function knownNames(given: string, known: readonly string[], nearby: readonly string[] = []): string {
  const meant = nearestName(given, [...known, ...nearby]);
  const suggestion = meant === undefined ? '' : ` Did you mean '${meant}'?`;
  return `${suggestion} Known: ${known.length === 0 ? 'none' : listOf(known)}.`;
}

/** The names for `details.known` of an error. An API may show these names. */
export function listedNames(known: readonly string[]): readonly string[] {
  return known.slice(0, MAX_LISTED);
}

/**
 * The known name that is most similar to a given name. The two names may differ in at most 3 letters, and in at most a third of the
 * letters. `undefined` if no known name is similar enough.
 */
export function nearestName(given: string, known: readonly string[]): string | undefined {
  if (given.length > MAX_COMPARED_LENGTH) return undefined;
  const wanted = given.toLowerCase();
  let limit = Math.min(3, Math.floor(given.length / 3));
  let nearest: string | undefined;
  for (const name of known.slice(0, MAX_COMPARED)) {
    if (name.length > MAX_COMPARED_LENGTH) continue;
    const distance = editDistance(wanted, name.toLowerCase(), limit);
    if (distance > limit) continue;
    nearest = name;
    if (distance === 0) return name; // only upper and lower case differ
    limit = distance - 1;
  }
  return nearest;
}

function listOf(known: readonly string[]): string {
  let text = '';
  let listed = 0;
  for (const name of known) {
    if (listed === MAX_LISTED || (listed > 0 && text.length + name.length > MAX_LIST_LENGTH)) break;
    text += listed === 0 ? name.slice(0, MAX_LIST_LENGTH) : `, ${name}`;
    listed += 1;
  }
  const left = known.length - listed;
  return left === 0 ? text : `${text} and ${left} more`;
}

/**
 * The number of edits between two texts (optimal string alignment). An edit inserts, deletes or replaces a letter, or swaps a letter
 * with the next letter. Only cells near the diagonal are computed, because cells further away exceed the limit.
 *
 * @returns `limit + 1` if the distance exceeds the limit
 */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  const FAR = limit + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = Array.from({ length: b.length + 1 }, () => FAR);
    if (row <= limit) current[0] = row;
    let least = current[0] ?? FAR;
    for (let column = Math.max(1, row - limit); column <= Math.min(b.length, row + limit); column++) {
      const isSame = a[row - 1] === b[column - 1];
      let distance = Math.min(
        (last[column] ?? FAR) + 1,
        (current[column - 1] ?? FAR) + 1,
        (last[column - 1] ?? FAR) + (isSame ? 0 : 1),
      );
      const isExchange = column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (isExchange) distance = Math.min(distance, (beforeLast[column - 2] ?? FAR) + 1);
      current[column] = distance;
      least = Math.min(least, distance);
    }
    // A swap of two letters reads the row before the last row, so both rows must exceed the limit.
    if (least >= FAR && Math.min(...last) >= FAR) return FAR;
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? FAR;
}
