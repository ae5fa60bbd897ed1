/** At most `limit` requests in any stretch of `perSeconds`, in all processes together. */
export interface RateLimit {
  readonly limit: number;
  readonly perSeconds: number;
}

/**
 * The generic cell rate algorithm (ITU-T I.371): each request uses up `perSeconds / limit` of time, and as many may go at
 * once as fit into `perSeconds`. One number is all there is to keep: until when the requests made so far have used up the
 * time. In microseconds, as a limit of thousands a second is no whole number of milliseconds.
 *
 * @returns how many may go at `now` (milliseconds), and how `spentUntil` moves when `taken` of them do
 */
export function allowanceOf({ limit, perSeconds }: RateLimit, spentUntil: number | null, now: number) {
  const nowUs = now * 1_000;
  const intervalUs = (perSeconds * 1_000_000) / limit;
  const from = Math.max(nowUs, spentUntil ?? 0);
  const left = perSeconds * 1_000_000 - (from - nowUs);
  return {
    allowed: Math.max(0, Math.floor(left / intervalUs + 1e-6)),
    spentAfter: (taken: number) => Math.ceil(from + taken * intervalUs),
    /** When one more may go, in milliseconds, after `taken` have gone. */
    nextAt: (taken: number) => Math.ceil((from + (taken + 1) * intervalUs - perSeconds * 1_000_000) / 1_000),
  };
}
