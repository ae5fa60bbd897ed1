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

/** As variables: the types of an application that lacks the optional package must not look for it. */
const PACKAGE: string = 'class-transformer';
const STORAGE: string = 'class-transformer/cjs/storage.js';

let loading: Promise<ClassTransformerStorage | undefined> | undefined;
let loaded: { readonly storage: ClassTransformerStorage | undefined } | undefined;

/**
 * Finds out whether class-transformer is installed, before the first {@link exposureOf}. By `import()`, and not by `require` of
 * `createRequire(import.meta.url)`: jest runs this file as CommonJS, where neither is to be had.
 *
 * @throws ConfigurationError `CLASS_TRANSFORMER_UNKNOWN` for a version whose decorators cannot be read.
 */
export async function loadExposure(): Promise<void> {
  loading ??= loadStorage();
  loaded = { storage: await loading };
}

/** The storage is read rather than `instanceToPlain` called: that would run the application's `@Transform` functions. */
async function loadStorage(): Promise<ClassTransformerStorage | undefined> {
  try {
    await import(PACKAGE);
  } catch (error) {
    // Not installed: nobody can have used its decorators.
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

/** Node.js says it with the first code for a module, and with the second for CommonJS, as jest does. */
function isModuleMissing(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
}

function unknownVersion(cause: unknown): ConfigurationError {
  return new ConfigurationError(
    'CLASS_TRANSFORMER_UNKNOWN',
    'class-transformer is installed, but @Exclude() and @Expose() cannot be read from this version of it, and a hidden column might leave. Install class-transformer ^0.5.1.',
    { cause },
  );
}

/**
 * Whether class-transformer's decorators let a property of a class out, as `instanceToPlain()` without groups would.
 * @throws Error before {@link loadExposure}: a hidden column might leave
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
