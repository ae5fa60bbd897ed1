import { ConfigurationError } from '../../errors.js';

/**
 * The error for a data source without entities, for commands that would otherwise report success. Code `NO_ENTITIES`. @param file of the
 * data source
 */
export function noEntities(file: string): ConfigurationError {
  return new ConfigurationError(
    'NO_ENTITIES',
    `The DataSource of ${file} has no entity with webhooks. Only Nest sees the entities of TypeOrmModule.forFeature([...]) and autoLoadEntities. Name your entities in the DataSource, for example entities: [Order] or ["dist/**/*.entity.js"]. The TypeORM CLI also needs these for migrations. Name entities without @Webhook() in the export \`webhooks\`.`,
  );
}
