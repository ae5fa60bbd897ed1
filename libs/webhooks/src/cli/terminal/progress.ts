import { grouped } from './table.js';
import type { Terminal } from './terminal.js';

const WIDTH = 20;
/** Drawing the bar more often would only cost time. */
const AT_MOST_EVERY_MS = 100;

/**
 * A bar on a terminal, such as `[##########----------] 612 / 1,204   48/s`. Draws nothing elsewhere.
 *
 * @param total the estimated amount of work
 * @param hint a text after the bar
 */
export class Progress {
  private readonly startedAt = performance.now();
  private drawnAt = -Infinity;

  constructor(
    private readonly terminal: Pick<Terminal, 'draw'>,
    private readonly total: number,
    private readonly hint = '',
  ) {}

  /** @param done the amount of work done so far */
  show(done: number): void {
    const now = performance.now();
    if (now - this.drawnAt < AT_MOST_EVERY_MS) return;
    this.drawnAt = now;
    // The amount of work may grow while the task runs.
    const total = Math.max(this.total, done);
    const filled = total === 0 ? WIDTH : Math.floor((WIDTH * done) / total);
    const perSecond = Math.round(done / Math.max(0.001, (now - this.startedAt) / 1_000));
    const bar = `${'#'.repeat(filled)}${'-'.repeat(WIDTH - filled)}`;
    this.terminal.draw(
      `[${bar}] ${grouped(done)} / ${grouped(total)}   ${grouped(perSecond)}/s${this.hint && `   ${this.hint}`}`,
    );
  }

  /** Removes the bar. */
  end(): void {
    this.terminal.draw('');
  }
}
