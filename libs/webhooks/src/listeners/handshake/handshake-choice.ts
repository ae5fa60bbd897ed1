import { hintForApplication } from '../../errors.js';
import type { ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import type { ListenerRow, ListenerValues } from '../../store/listeners/listener-rows.js';
import { InvalidListenerError } from '../../listener-errors.js';
import type { Handshake } from '../../options/handshake-methods.js';

/** The kind of caller that chooses a handshake, and the rules of the application for the choice. */
export interface HandshakeRules {
  readonly options: ResolvedWebhooksOptions['handshake'];
  /** Whether a customer chooses, through an owner-bound service. */
  readonly isOwnerBound: boolean;
}

/**
 * The handshake of a new or changed listener.
 *
 * @param given `null` for the default, `undefined` to keep the present handshake
 * @param before the listener before a change
 * @throws InvalidListenerError `HANDSHAKE_REQUIRED`, `HANDSHAKE_ORIGIN_MISSING`
 */
export function handshakeOf(
  given: Handshake | null | undefined,
  { options, isOwnerBound }: HandshakeRules,
  before?: { readonly handshake: Handshake; readonly isNewUrl: boolean },
): Handshake {
  const { default: byDefault, origin } = options;
  // If the application has set 'none', then 'none' applies only to the current URL. The customer chooses the next URL. So the next
  // URL needs a handshake.
  const isRequired = isOwnerBound && byDefault !== 'none';
  const isExempt = before?.handshake === 'none' && !before.isNewUrl;
  if (given === 'none' && isRequired && !isExempt) {
    throw new InvalidListenerError(
      'HANDSHAKE_REQUIRED',
      `Invalid value 'none' for \`handshake\`. Allowed: 'challenge'${origin === undefined ? '' : ", 'cloudevents'"}. Each receiver must agree before the first webhook is sent.`,
      hintForApplication(
        'HANDSHAKE_REQUIRED',
        "The option handshake.default is not 'none', so owner-bound services reject 'none'.",
      ),
    );
  }
  const kept = before && (before.handshake !== 'none' || isExempt || !isRequired) ? before.handshake : byDefault;
  const handshake = given === undefined ? kept : (given ?? byDefault);
  if (handshake === 'cloudevents' && handshake !== before?.handshake && origin === undefined) {
    throw new InvalidListenerError(
      'HANDSHAKE_ORIGIN_MISSING',
      "Invalid value 'cloudevents' for `handshake`. Allowed: 'challenge'.",
      hintForApplication(
        'HANDSHAKE_ORIGIN_MISSING',
        "The handshake 'cloudevents' needs the option handshake.origin of WebhooksModule.forRoot(). Set it.",
      ),
    );
  }
  return handshake;
}

/**
 * The columns that change with a new URL or another handshake. Empty if the URL and the handshake stay the same.
 *
 * @throws the errors of {@link handshakeOf}
 */
export function handshakeChange(
  row: ListenerRow,
  url: string,
  given: Handshake | null | undefined,
  rules: HandshakeRules,
): Partial<ListenerValues> {
  const isNewUrl = url !== row.url;
  const handshake = handshakeOf(given, rules, { handshake: row.handshake as Handshake, isNewUrl });
  if (!isNewUrl && handshake === row.handshake) return {};
  const restarted = { handshake, handshakeError: null, allowedRate: null };
  // The handshake of a disabled listener starts when the listener is enabled.
  if (row.state === 'disabled') return restarted;
  return { ...restarted, state: handshake === 'none' ? 'active' : 'pending' };
}
