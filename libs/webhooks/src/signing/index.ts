export { GoogleCodeScheme } from './google-code-scheme.js';
export { assertSecret, generateSecret, MAX_SECRET_BYTES, MIN_SECRET_BYTES, SECRET_PREFIX } from './secret.js';
export type { SignatureScheme, SigningInput, VerifyInput } from './signature-scheme.js';
export { StandardScheme } from './standard-scheme.js';
