import { VersionError } from '../../entities/payload-versions.js';

/** `lastErrorCode` of a delivery that could not be rendered: by the listener's format, or in the listener's version. */
export type RenderFailure = 'FORMAT_FAILED' | 'VERSION_FAILED';
const RENDER_FAILURES: readonly string[] = ['FORMAT_FAILED', 'VERSION_FAILED'] satisfies RenderFailure[];

/** `lastErrorCode` of a delivery that waits, because this process does not offer the version of the listener. */
export const UNKNOWN_VERSION = 'UNKNOWN_VERSION';

/** The part of an event that a payload format gets, in stored form. */
export interface RenderedEvent {
  readonly id: string;
  readonly type: string;
  readonly payload: string;
  readonly context: string | null;
}

/** The properties of a listener that decide the body. */
export interface BodyChoice {
  readonly format: string;
  /** The pinned versions, in stored form. See `payload-pins.ts`. */
  readonly versions: string | null;
}

/** The body of one delivery. */
export interface RenderedBody {
  /** `null`: the event's own payload. Or, with a version, the body waits for a process that offers this version. */
  readonly body: string | null;
  /** The format that rendered the body; `null` for the payload in its canonical form. */
  readonly format: string | null;
  /** The older version in which the body is rendered; `null` for the version of the event. */
  readonly version: number | null;
}

/** Renders the body of an event for a listener. Throws the error of the format, or a `VersionError`. */
export type BodyOf = (listener: BodyChoice, event: RenderedEvent) => RenderedBody;

/** The event's own payload. */
export const OWN_TEXT: RenderedBody = { body: null, format: null, version: null };

/** Whether a body cannot be rendered by the process that made the delivery. A later claim renders the body. */
export function isWaiting({ body, version }: Pick<RenderedBody, 'body' | 'version'>): boolean {
  return body === null && version !== null;
}

/** The code of an error that {@link BodyOf} threw. */
export function renderFailureOf(error: unknown): RenderFailure {
  return error instanceof VersionError ? 'VERSION_FAILED' : 'FORMAT_FAILED';
}

/** Whether a `lastErrorCode` says that the body could not be rendered, so that it must be rendered again. */
export function isRenderFailure(code: string | null): code is RenderFailure {
  return code !== null && RENDER_FAILURES.includes(code);
}
