import { oneLine } from './foreign-text.js';

/** Optional properties of a {@link WebhooksError}. */
export interface WebhooksErrorOptions {
  /**
   * The error that caused this error. For a `BadRequestError`, `cause` may also be a hint for the developer of the
   * application.
   */
  cause?: unknown;
  /** Data for programs, such as the invalid field or the allowed values. Never secrets. */
  details?: Readonly<Record<string, unknown>>;
}

/**
 * Base class of every error that this library throws.
 *
 * `code` is stable: branch on `code`, never on the message. `docs/errors.md` lists the codes.
 */
export class WebhooksError extends Error {
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    readonly code: string,
    message: string,
    options: WebhooksErrorOptions = {},
  ) {
    // The message may contain foreign text, and the application may log it.
    super(oneLine(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.details = Object.freeze({ ...options.details });
  }
}

/**
 * An error that a customer can cause, for example with a wrong URL, filter, header or secret, or with the id of another owner.
 *
 * A REST endpoint may answer with `httpStatus` and show `code` and `message`. Both contain only input of the customer and information that
 * the customer may see, and nothing about the options of the application. `cause` may contain a hint for the developer of the application.
 */
export class BadRequestError extends WebhooksError {
  constructor(code: string, message: string, options: WebhooksErrorOptions & { httpStatus?: number } = {}) {
    super(code, message, options);
    this.httpStatus = options.httpStatus ?? 400;
  }

  /**
   * The HTTP status: 404 if the requested object does not exist, 409 if the call is not possible now, 429 if a quota of calls per
   * minute is reached. Otherwise 400.
   */
  readonly httpStatus: number;
}

/**
 * A mistake in the configuration of the application. The error is thrown while the application starts, or at the first affected
 * call.
 */
export class ConfigurationError extends WebhooksError {}

/**
 * A hint for the developer of the application. The hint is the `cause` of an error that a customer causes. Logs show the hint. An
 * answer to the customer does not contain the hint.
 *
 * @internal
 */
export function hintForApplication(code: string, hint: string): { cause: ConfigurationError } {
  return { cause: new ConfigurationError(code, hint) };
}
