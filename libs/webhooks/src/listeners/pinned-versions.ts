import { versionNumbers } from '../entities/payload-versions.js';
import { LATEST, pinOf, readPins, writePins, type VersionPins, type VersionPinsInput } from '../events/payload-pins.js';
import { knownNames, listedNames } from '../known-names.js';
import { InvalidListenerError } from '../listener-errors.js';
import { matchesAnyPattern } from '../routing/route-key.js';
import type { EventCatalog } from './event-catalog.js';
import type { VersionedType, VersionedTypes } from './versioned-types.js';

/** The part of a listener that decides which types it receives. */
export interface Subscribed {
  readonly patterns: readonly string[];
  readonly isOwned: boolean;
}

/** The pins of a listener before a change. */
export interface PinsBefore {
  readonly patterns: readonly string[];
  /** In stored form. */
  readonly versions: string | null;
}

/** The versions that listeners pin. See `docs/decisions/0016-payload-versions.md`. */
export class PinnedVersions {
  constructor(
    private readonly catalog: EventCatalog,
    private readonly types: VersionedTypes,
  ) {}

  /**
   * The pins in stored form. A type that `given` does not name keeps its version. A type that the listener did not receive before gets the
   * newest version, and so does a type for which `given` has `null`.
   *
   * @param given `null`: the newest version of every type
   * @throws InvalidListenerError `UNKNOWN_EVENT_TYPE`, `UNKNOWN_VERSION`
   */
  stored(given: VersionPinsInput | null | undefined, listener: Subscribed, before?: PinsBefore): string | null {
    if (given === LATEST) return writePins(LATEST);
    const old = readPins(before?.versions ?? null);
    if (given === undefined && before && old === LATEST) return before.versions;
    const named = Object.entries(given ?? {});
    // A type with `null` may be unknown: a patch may remove a key that is not there (RFC 7396, 2).
    const removed = new Set(named.filter(([, version]) => version === null).map(([type]) => type));
    const chosen = named.filter((pin): pin is [string, number] => pin[1] !== null);
    for (const [type, version] of chosen) this.assertOffered(type, version, listener);
    const pins: Record<string, number> = {};
    for (const type of this.receivedBy(listener)) {
      const isKept = given !== null && !removed.has(type.type) && old !== LATEST;
      pins[type.type] = isKept && before && receives(before.patterns, type) ? pinOf(old, type.type) : type.newest;
    }
    return writePins({ ...pins, ...Object.fromEntries(chosen) });
  }

  /** The pins in the form that services show: every type with several versions that the listener receives. */
  shown(stored: string | null, listener: Subscribed): VersionPins {
    const pins = readPins(stored);
    if (pins === LATEST) return pins;
    const received = this.receivedBy(listener).map(({ type }): [string, number] => [type, pinOf(pins, type)]);
    return Object.fromEntries([...Object.entries(pins), ...received].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The pinned versions that this process does not offer. Their deliveries wait. */
  missing(stored: string | null, listener: Subscribed): { readonly type: string; readonly version: number }[] {
    const pins = readPins(stored);
    return this.receivedBy(listener)
      .map((found) => ({ type: found.type, version: pinOf(pins, found.type), offered: versionNumbers(found) }))
      .filter(({ version, offered }) => version < (offered[0] ?? 1) && !offered.includes(version))
      .map(({ type, version }) => ({ type, version }));
  }

  /**
   * @param property the property of the input that names the version
   * @throws InvalidListenerError `UNKNOWN_VERSION` if a type has no such version
   */
  assertVersion(type: string, version: number, property: string): void {
    const found = this.types.find(type);
    const offered = found ? versionNumbers(found) : [1];
    if (offered.includes(version)) return;
    throw new InvalidListenerError(
      'UNKNOWN_VERSION',
      `'${type}' has no version ${version}. Allowed: ${offered.join(', ')}.`,
      { details: { type, known: offered, properties: [property] } },
    );
  }

  private assertOffered(type: string, version: number, { patterns, isOwned }: Subscribed): void {
    const superTypes = this.types.find(type)?.superTypes ?? [];
    const visible = this.catalog.typesFor(isOwned);
    if (!visible.includes(type) || !matchesAnyPattern([...patterns], [type, ...superTypes])) {
      const known = visible.filter((one) => matchesAnyPattern([...patterns], [one]));
      throw new InvalidListenerError(
        'UNKNOWN_EVENT_TYPE',
        `\`versions\` names '${type.slice(0, 128)}', which is no event type of this listener.${knownNames(type, known)}`,
        { details: { known: listedNames(known), properties: ['versions'] } },
      );
    }
    this.assertVersion(type, version, 'versions');
  }

  /** The types with several versions that a listener receives. */
  private receivedBy({ patterns, isOwned }: Subscribed): VersionedType[] {
    const versioned = this.types.versioned().filter((type) => receives(patterns, type));
    if (versioned.length === 0) return [];
    const visible = new Set(this.catalog.typesFor(isOwned));
    return versioned.filter(({ type }) => visible.has(type));
  }
}

function receives(patterns: readonly string[], { type, superTypes }: VersionedType): boolean {
  return matchesAnyPattern([...patterns], [type, ...superTypes]);
}
