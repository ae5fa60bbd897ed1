/** The version in libs/webhooks/package.json; a test holds the two together. Not read at run time: bundles have no such file. */
const VERSION = '0.1.0';

/** What every request says it comes from. */
export const USER_AGENT = `nestjs-entity-webhooks/${VERSION}`;
