import type { Sending } from '../../system/system-overview.js';

/** One line, such as `paused since 2026-11-30T12:00:00.000Z by ann: our address is blocked`. */
export function sendingText({ paused, reason, since, actor }: Sending): string {
  if (!paused) return 'on';
  const by = actor === null ? '' : ` by ${actor}`;
  return `paused since ${since?.toISOString()}${by}${reason === null ? '' : `: ${reason}`}`;
}
