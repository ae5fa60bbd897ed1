import { ConfigurationError } from '../errors.js';

interface ExposeMetadata {
  options?: { groups?: readonly string[]; toClassOnly?: boolean };
}

/**
 * The part of class-transformer's metadata storage that this file reads. These names have not changed since version
 * 0.3 of class-transformer.
 */
interface ClassTransformerStorage {
  getStrategy(target: object): 'excludeAll' | 'exposeAll' | 'none';
  getExposedProperties(target: object, transformation: number): string[];
  getExcludedProperties(target: object, transformation: number): string[];
  findExposeMetadata(target: object, property: string): ExposeMetadata | undefined;
}

const CLASS_TO_PLAIN = 1;

/**
 * The constant has the type `string`. With a literal type, TypeScript would look for the optional package in
 * applications that lack the package.
 */
const PACKAGE: string = 'class-transformer';
const STORAGE: string = 'class-transformer/cjs/storage.js';

let loading: Promise<ClassTransformerStorage | undefined> | undefined;
let loaded: { readonly storage: ClassTransformerStorage | undefined } | undefined;

/**
 * Loads the metadata of class-transformer, if the package is installed. Call this function before the first {@link exposureOf}. The
 * function uses `import()` instead of `createRequire(import.meta.url)`: jest runs this file as CommonJS, where `import.meta` does not
 * exist.
 *
 * @throws ConfigurationError `CLASS_TRANSFORMER_UNKNOWN` for a version whose decorators cannot be read.
 */
export async function loadExposure(): Promise<void> {
  loading ??= loadStorage();
  loaded = { storage: await loading };
}

/** Reads the storage. A call of `instanceToPlain()` would be shorter, but it would run the application's `@Transform` functions. */
async function loadStorage(): Promise<ClassTransformerStorage | undefined> {
  try {
    await import(PACKAGE);
  } catch (error) {
    // If the package is not installed, no entity can use its decorators.
    if (isModuleMissing(error)) return undefined;
    throw unknownVersion(error);
  }
  try {
    const { defaultMetadataStorage } = (await import(STORAGE)) as { defaultMetadataStorage: ClassTransformerStorage };
    if (typeof defaultMetadataStorage.getStrategy !== 'function') throw new TypeError('getStrategy is missing');
    return defaultMetadataStorage;
  } catch (cause) {
    throw unknownVersion(cause);
  }
}

/** Node.js uses the first code for ES modules, and the second code for CommonJS. Jest runs this file as CommonJS. */
function isModuleMissing(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
}

function unknownVersion(cause: unknown): ConfigurationError {
  return new ConfigurationError(
    'CLASS_TRANSFORMER_UNKNOWN',
    'The installed version of class-transformer does not show @Exclude() and @Expose(), so a hidden column could reach a payload. Install class-transformer ^0.5.1.',
    { cause },
  );
}

/**
 * Returns a predicate that says whether class-transformer's decorators expose a property of the class. The predicate accepts the
 * same properties that `instanceToPlain()` without groups returns.
 * @throws Error when the function is called before {@link loadExposure}: a hidden column could reach a payload
 */
export function exposureOf(target: unknown): (property: string) => boolean {
  if (!loaded) throw new Error('exposureOf() was called before loadExposure().');
  const storage = typeof target === 'function' ? loaded.storage : undefined;
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
