import { createRequire } from 'node:module';
import { ConfigurationError } from '../errors.js';

interface ExposeMetadata {
  options?: { groups?: readonly string[]; toClassOnly?: boolean };
}

/** The part of class-transformer's metadata storage that is read here; the same names since its 0.3. */
interface ClassTransformerStorage {
  getStrategy(target: object): 'excludeAll' | 'exposeAll' | 'none';
  getExposedProperties(target: object, transformation: number): string[];
  getExcludedProperties(target: object, transformation: number): string[];
  findExposeMetadata(target: object, property: string): ExposeMetadata | undefined;
}

const CLASS_TO_PLAIN = 1;
const require = createRequire(import.meta.url);

/** The storage is read rather than `instanceToPlain` called: that would run the application's `@Transform` functions. */
function loadStorage(): ClassTransformerStorage | undefined {
  try {
    require.resolve('class-transformer');
  } catch {
    return undefined; // not installed: nobody can have used its decorators
  }
  try {
    const { defaultMetadataStorage } = require('class-transformer/cjs/storage.js') as {
      defaultMetadataStorage: ClassTransformerStorage;
    };
    if (typeof defaultMetadataStorage.getStrategy !== 'function') throw new TypeError('getStrategy is missing');
    return defaultMetadataStorage;
  } catch (cause) {
    throw new ConfigurationError(
      'CLASS_TRANSFORMER_UNKNOWN',
      'class-transformer is installed, but @Exclude() and @Expose() cannot be read from this version of it, and a hidden column might leave. Install class-transformer ^0.5.1.',
      { cause },
    );
  }
}

/**
 * Whether class-transformer's decorators let a property of a class out, as `instanceToPlain()` without groups would.
 *
 * @throws ConfigurationError `CLASS_TRANSFORMER_UNKNOWN` for a version whose decorators cannot be read.
 */
export function exposureOf(target: unknown): (property: string) => boolean {
  const storage = typeof target === 'function' ? loadStorage() : undefined;
  if (!storage) return () => true;
  const entity = target as object;
  const exposed = new Set(storage.getExposedProperties(entity, CLASS_TO_PLAIN));
  const excluded = new Set(storage.getExcludedProperties(entity, CLASS_TO_PLAIN));
  const onlyExposed = storage.getStrategy(entity) === 'excludeAll';
  return (property) => {
    if (storage.findExposeMetadata(entity, property)?.options?.groups?.length) return false;
    return exposed.has(property) || (!onlyExposed && !excluded.has(property));
  };
}
