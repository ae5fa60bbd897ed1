import { oneLine } from './foreign-text.js';

/** Extra facts an error carries beside its sentence. */
export interface WebhooksErrorOptions {
  /** What made it fail, when something else threw. Of a `BadRequestError` also what the application can do about it. */
  cause?: unknown;
  /** Facts for programs: the offending field, the allowed values… Never secrets. */
  details?: Readonly<Record<string, unknown>>;
}

/**
 * Root of every error this library throws.
 *
 * `code` is stable: branch on it, never on the message. Subclasses stand beside the concept they belong to.
 */
export class WebhooksError extends Error {
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    readonly code: string,
    message: string,
    options: WebhooksErrorOptions = {},
  ) {
    // It may repeat what somebody gave, and somebody else logs it.
    super(oneLine(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.details = Object.freeze({ ...options.details });
  }
}

/**
 * What a customer may cause: a wrong URL, filter, header, secret, an id that is not theirs.
 *
 * A REST endpoint may answer with `httpStatus` and show `code` and `message`: they hold nothing that the customer did
 * not send or may not know, and nothing about the options of the application. What the application can change stands in `cause`.
 */
export class BadRequestError extends WebhooksError {
  constructor(code: string, message: string, options: WebhooksErrorOptions & { httpStatus?: number } = {}) {
    super(code, message, options);
    this.httpStatus = options.httpStatus ?? 400;
  }

  /** The 4xx that fits: 400, or 404 for what does not exist, or 409 for what cannot be done now. */
  readonly httpStatus: number;
}

/** The application is set up wrongly: thrown while it starts, or at the first call that meets the mistake. */
export class ConfigurationError extends WebhooksError {}

/**
 * What the application can do about an error that a customer meets, as the `cause` of that error. Logs show a cause; an answer to the customer
 * does not hold it.
 *
 * @internal
 */
export function hintForApplication(code: string, hint: string): { cause: ConfigurationError } {
  return { cause: new ConfigurationError(code, hint) };
}
