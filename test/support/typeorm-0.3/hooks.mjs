const TYPEORM = /([\\/]node_modules[\\/])typeorm([\\/])/;

/**
 * Decides by the resolved file and not by the name: the test runner imports files, while the library and @nestjs/typeorm import names.
 *
 * @param {string} file a path or a `file:` URL
 */
export function moved(file) {
  return file.replace(TYPEORM, '$1typeorm-0.3$2');
}

/**
 * @param {string} specifier
 * @param {unknown} context
 * @param {(specifier: string, context: unknown) => Promise<{ url: string }>} next
 */
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  return { ...found, url: moved(found.url) };
}
