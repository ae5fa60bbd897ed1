/**
 * A captured statement. If a hook `afterQuery` of the application fails, the database has already executed the statement, and its rows need
 * events. So the error of the hook is kept, and {@link throwHookError} throws it when the events are recorded. Otherwise a caller who
 * swallows the error could commit rows without events.
 */
export class SentStatement {
  /** The text that was sent last. */
  text = '';
  /** Whether the database has executed the statement. */
  isExecuted = false;
  private hookError: { readonly error: unknown } | undefined;

  /** Called when a hook `afterQuery` of the application has failed. */
  hookFailed(error: unknown): void {
    this.hookError ??= { error };
  }

  throwHookError(): void {
    if (this.hookError) throw this.hookError.error;
  }
}
