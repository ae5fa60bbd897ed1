/** Why an attempt is made. The rows contain `null` for an attempt that the schedule makes. */
export type AttemptTrigger = 'resend' | 'recover' | 'replay' | 'test' | 'probe';

/** What makes the next attempt of a delivery, and the person or program that asked for it. */
export interface Triggered {
  readonly trigger: AttemptTrigger;
  /** `null` if the application gave no name. */
  readonly by: string | null;
}
