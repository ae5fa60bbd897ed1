import type { EntityDefinition } from '../entities/entity-definition.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import { offeredVersions, olderBody, type OfferedVersions } from '../entities/payload-versions.js';
import { ENTITY_ACTIONS } from '../entities/webhook.decorator.js';
import type { Deprecation } from '../entities/wrong-description.js';
import { textOfBody, type CanonicalBody } from '../events/payload.js';
import type { PublishedType } from '../options/webhooks-options.js';

/** An event type with several versions, or with a deprecation. */
export interface VersionedType extends OfferedVersions {
  readonly type: string;
  /** The types of the entity's parents. Listeners for such a type also receive this type. */
  readonly superTypes: readonly string[];
  readonly deprecated: Deprecation | undefined;
  /** The fields that a thin payload keeps. */
  readonly identity: readonly string[];
  readonly paths: readonly (readonly string[])[];
}

/** The versions and the deprecations of the types that this process knows. */
export class VersionedTypes {
  private readonly known: () => ReadonlyMap<string, VersionedType>;

  constructor(
    registry: EntityRegistry,
    publishedTypes: ReadonlyMap<string, PublishedType>,
    private readonly maxPayloadBytes: number,
  ) {
    const published = [...publishedTypes.values()].map(ofPublished);
    this.known = registry.derived((definitions) => {
      const all = [...published, ...definitions.flatMap(ofEntity)];
      const notable = all.filter(({ newest, deprecated }) => newest > 1 || deprecated !== undefined);
      return new Map(notable.map((one) => [one.type, one]));
    });
  }

  /** The type; `undefined` if it has one version and no deprecation, or if this process does not know it. */
  find(type: string): VersionedType | undefined {
    return this.known().get(type);
  }

  /** The types with several versions. */
  versioned(): VersionedType[] {
    return [...this.known().values()].filter(({ newest }) => newest > 1);
  }

  /**
   * Renders an older version.
   *
   * @param text the canonical text, in a newer version
   * @returns `null` if this process does not offer the version
   * @throws VersionError
   */
  render(type: string, text: string, version: number): string | null {
    const found = this.find(type);
    const body = JSON.parse(text) as CanonicalBody;
    if (!found?.older.has(version) || (body.version ?? 1) > found.newest) return null;
    return textOfBody(olderBody(body, version, found, found.paths), found.identity, this.maxPayloadBytes);
  }
}

function ofEntity(definition: EntityDefinition): VersionedType[] {
  const { options, identity, fields } = definition;
  const paths = fields.map(({ parts }) => parts);
  return ENTITY_ACTIONS.filter((action) => definition.actions.has(action)).map((action) => ({
    type: definition.typeOf(action),
    superTypes: definition.superTypesOf(action),
    deprecated: options.events?.[action]?.deprecated,
    identity,
    paths,
    ...offeredVersions(options),
  }));
}

function ofPublished(published: PublishedType): VersionedType {
  const { type, deprecated } = published;
  return { type, superTypes: [], deprecated, identity: ['id'], paths: [], ...offeredVersions(published) };
}
