import { hintForApplication } from '../../errors.js';
import type { ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import type { ListenerRow, ListenerValues } from '../../store/listeners/listener-rows.js';
import { InvalidListenerError } from '../../listener-errors.js';
import type { Handshake } from '../../options/handshake-methods.js';

/** By whom a handshake is chosen, and what the application says of them. */
export interface HandshakeRules {
  readonly options: ResolvedWebhooksOptions['handshake'];
  /** A customer chooses, through a service that is bound to an owner. */
  readonly isOwnerBound: boolean;
}

/**
 * The handshake of a listener that is made or changes.
 *
 * @param given `null` for the default, `undefined` for what it was
 * @param before of a listener that changes
 * @throws InvalidListenerError `HANDSHAKE_REQUIRED`, `HANDSHAKE_ORIGIN_MISSING`
 */
export function handshakeOf(
  given: Handshake | null | undefined,
  { options, isOwnerBound }: HandshakeRules,
  before?: { readonly handshake: Handshake; readonly isNewUrl: boolean },
): Handshake {
  const { default: byDefault, origin } = options;
  // What the application has exempted stays so at this URL alone: the next one is a customer's choice.
  const isRequired = isOwnerBound && byDefault !== 'none';
  const isExempt = before?.handshake === 'none' && !before.isNewUrl;
  if (given === 'none' && isRequired && !isExempt) {
    throw new InvalidListenerError(
      'HANDSHAKE_REQUIRED',
      "Receivers are asked before they are sent anything: `handshake` cannot be 'none'.",
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
      "`handshake` cannot be 'cloudevents' here. Allowed: 'challenge'.",
      hintForApplication(
        'HANDSHAKE_ORIGIN_MISSING',
        'A receiver knows the application by WebhooksModule.forRoot({ handshake: { origin } }): set it.',
      ),
    );
  }
  return handshake;
}

/** What a new URL, or another handshake, makes of a listener; nothing, where it has neither. @throws as {@link handshakeOf} does */
export function standingOf(
  row: ListenerRow,
  url: string,
  given: Handshake | null | undefined,
  rules: HandshakeRules,
): Partial<ListenerValues> {
  const isNewUrl = url !== row.url;
  const handshake = handshakeOf(given, rules, { handshake: row.handshake as Handshake, isNewUrl });
  if (!isNewUrl && handshake === row.handshake) return {};
  const anew = { handshake, handshakeError: null, allowedRate: null };
  // A disabled one is asked when it is enabled.
  if (row.state === 'disabled') return anew;
  return { ...anew, state: handshake === 'none' ? 'active' : 'pending' };
}
