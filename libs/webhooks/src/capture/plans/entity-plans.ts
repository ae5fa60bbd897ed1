import type { DataSource } from 'typeorm';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { EntityPlan } from './entity-plan.js';

/**
 * The plans of all captured entities. The plans are made at bootstrap, or earlier by the first write. The plans are made again if the
 * definitions change.
 */
export class EntityPlans {
  private readonly plans: () => ReadonlyMap<EntityDefinition, EntityPlan>;

  constructor(registry: EntityRegistry, dataSource: DataSource) {
    this.plans = registry.derived(
      (definitions) => new Map(definitions.map((one) => [one, new EntityPlan(one, dataSource)])),
    );
  }

  /** Makes the plans if they are missing or out of date. */
  make(): void {
    this.plans();
  }

  /** @param definition a current definition of the registry */
  of(definition: EntityDefinition): EntityPlan {
    return this.plans().get(definition) as EntityPlan;
  }
}
