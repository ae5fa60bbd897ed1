/**
 * The version in libs/webhooks/package.json. A test checks that both versions are equal. The version is not read at
 * run time, because bundles do not contain package.json.
 */
export const VERSION = '0.1.0';

/** The `User-Agent` header of every request. */
export const USER_AGENT = `nestjs-entity-webhooks/${VERSION}`;
