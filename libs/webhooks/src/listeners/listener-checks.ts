import { hintForApplication } from '../errors.js';
import { writeRateLimit } from '../health/rate-limit.js';
import { knownNames, listedNames } from '../known-names.js';
import { InvalidListenerError } from '../listener-errors.js';
import { compileFilter } from '../routing/compile-filter.js';
import type { Filter } from '../routing/filter.js';
import { routesOf } from '../routing/route-key.js';
import { assertListenerHeaders } from '../sending/listener-headers.js';
import { assertListenerUrl } from '../sending/listener-url.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { HandshakeRules } from './handshake/handshake-choice.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { CreateListenerInput, Listener, ListenerInput, Where } from './listener.js';

/** Checks the input for a listener, and returns the columns that store it. */
export class ListenerChecks {
  /** @internal */
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
  ) {}

  subscription(events: readonly string[], where: Where, owner: string | null) {
    if (!events.length) {
      throw new InvalidListenerError(
        'INVALID_LISTENER',
        "`events` is missing. Allowed: a list of event types such as 'order.created', or of patterns such as 'order.*'.",
        { details: { properties: ['events'] } },
      );
    }
    const patterns = [...new Set(events)];
    this.parts.catalog.checkPatterns(patterns, owner !== null);
    const filter: Filter = compileFilter(where, this.parts.catalog.fieldsOf(patterns, owner !== null));
    return {
      values: {
        patterns: JSON.stringify(patterns),
        filter: JSON.stringify(filter),
        definition: JSON.stringify(where, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
      },
      routes: routesOf({ owner, patterns, filter }),
    };
  }

  delivering(
    input: Omit<ListenerInput, 'events' | 'where' | 'secret' | 'auth' | 'tls'>,
    before?: Pick<Listener, 'format' | 'schemes'>,
  ) {
    const url = this.urlOf(input.url);
    const schemes = [...new Set(input.schemes ?? ['standard'])];
    const format = input.format ?? 'standard';
    this.assertKnown({ schemes, format }, before);
    return {
      url: url.href,
      name: input.name ?? null,
      description: input.description ?? null,
      headers: JSON.stringify(assertListenerHeaders(input.headers ?? {})),
      schemes: JSON.stringify(schemes),
      format,
      ordering: input.ordering ?? 'none',
      sequence: input.sequence ? 1 : 0,
      rateLimit: writeRateLimit(input.rateLimit),
    };
  }

  /**
   * An owner-bound service accepts the schemes and formats that customers may choose, and the schemes and formats that the listener already
   * has. For all other schemes and formats, it answers as if they did not exist.
   *
   * @param before the listener before a change
   */
  private assertKnown(
    { schemes, format }: Pick<Listener, 'format' | 'schemes'>,
    before?: Pick<Listener, 'format' | 'schemes'>,
  ): void {
    const { schemes: known, formats } = this.parts;
    const { schemes: knownSchemes, formats: knownFormats } = this.known;
    const mayKeep = (scheme: string) => known.has(scheme) && before?.schemes.includes(scheme);
    const unknown = schemes.find((scheme) => !knownSchemes.has(scheme) && !mayKeep(scheme));
    if (unknown !== undefined) {
      throw unknownPart('UNKNOWN_SCHEME', 'signature scheme', { given: unknown, known: knownSchemes });
    }
    if (knownFormats.has(format) || (formats.has(format) && before?.format === format)) return;
    throw unknownPart('UNKNOWN_FORMAT', 'payload format', { given: format, known: knownFormats });
  }

  /** The names that this service accepts for a new listener. */
  choices(): { readonly formats: readonly string[]; readonly schemes: readonly string[] } {
    const { formats, schemes } = this.known;
    return { formats: [...formats], schemes: [...schemes] };
  }

  private get known(): ListenerServiceParts['customers'] {
    const { schemes, formats, customers } = this.parts;
    return this.boundTo === undefined ? { formats, schemes: new Set(schemes.keys()) } : customers;
  }

  get handshakeRules(): HandshakeRules {
    return { options: this.parts.options.handshake, isOwnerBound: this.boundTo !== undefined };
  }

  urlOf(url: string): URL {
    return assertListenerUrl(url, this.parts.guard, this.parts.options.security);
  }

  entityEvents(
    entity: NonNullable<CreateListenerInput['entity']>,
    events: readonly string[] | undefined,
    isOwned: boolean,
  ) {
    if (events !== undefined) {
      throw new InvalidListenerError(
        'INVALID_LISTENER',
        '`entity` cannot be combined with `events`. Give only one of them.',
      );
    }
    return [this.parts.catalog.patternOf(entity, isOwned)];
  }
}

function unknownPart(
  code: 'UNKNOWN_SCHEME' | 'UNKNOWN_FORMAT',
  kind: string,
  { given, known }: { given: string; known: ReadonlySet<string> },
): InvalidListenerError {
  const names = [...known];
  return new InvalidListenerError(code, `There is no ${kind} '${given.slice(0, 64)}'.${knownNames(given, names)}`, {
    details: { known: listedNames(names) },
    ...hintForApplication(
      code,
      'Register your own in WebhooksModule.forRoot({ parts }). The option `customers` lists the schemes and formats that customers may choose.',
    ),
  });
}
