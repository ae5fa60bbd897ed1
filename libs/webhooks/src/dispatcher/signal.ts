/** Wakes the waiting task. A signal that is raised while no task waits is remembered for the next `wait`. */
export class Signal {
  private raised = false;
  private wakeUp: (() => void) | null = null;

  raise(): void {
    this.raised = true;
    this.wakeUp?.();
  }

  /** Waits for the next {@link raise}, at most `ms`. */
  async wait(ms: number): Promise<void> {
    if (!this.raised) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.wakeUp = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.wakeUp = null;
    this.raised = false;
  }
}
