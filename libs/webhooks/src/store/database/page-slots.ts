/**
 * Limits how many connections the calls of the application use at once. If no slot is free, a call waits for an earlier call. Waiting calls
 * keep their order.
 */
export class PageSlots {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  async take(): Promise<void> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  give(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}
