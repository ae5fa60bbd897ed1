/**
 * The version in libs/webhooks/package.json. A test checks that both are equal. It is not read at run time, because
 * bundles do not contain package.json.
 */
const VERSION = '0.1.0';

/** The `User-Agent` header of every request. */
export const USER_AGENT = `nestjs-entity-webhooks/${VERSION}`;
