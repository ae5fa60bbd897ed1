import type { DataSource } from 'typeorm';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { EntityPlan } from './entity-plan.js';

/** The plans of all captured entities. They are made at bootstrap, or earlier by the first write, and again with the definitions. */
export class EntityPlans {
  private readonly plans: () => ReadonlyMap<EntityDefinition, EntityPlan>;

  constructor(registry: EntityRegistry, dataSource: DataSource) {
    this.plans = registry.derived(
      (definitions) => new Map(definitions.map((one) => [one, new EntityPlan(one, dataSource)])),
    );
  }

  /** Makes the plans, unless they are up to date. */
  make(): void {
    this.plans();
  }

  /** @param definition a current definition of the registry */
  of(definition: EntityDefinition): EntityPlan {
    return this.plans().get(definition) as EntityPlan;
  }
}
