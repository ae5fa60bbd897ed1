/** The maximum size of the payloads that one transaction reads, in bytes. A transaction reads at least one event. */
const BYTES_PER_BATCH = 8 * 1_024 * 1_024;

/** The first events whose payloads one transaction may read together. At least one. */
export function withinBytes<E extends { readonly bytes: unknown }>(events: readonly E[]): readonly E[] {
  let bytes = 0;
  const end = events.findIndex((event, n) => (bytes += Number(event.bytes)) > BYTES_PER_BATCH && n > 0);
  return end === -1 ? events : events.slice(0, end);
}
