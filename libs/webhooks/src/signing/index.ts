export { generateSigningKey, keySetOf, publicKeyOf } from './ed25519-key.js';
export { GithubScheme } from './github-scheme.js';
export { GoogleCodeScheme } from './google-code-scheme.js';
export { assertSecret, generateSecret } from './secret.js';
export { SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';
export { StandardScheme, StandardV1aScheme } from './standard-scheme.js';
export { StripeScheme } from './stripe-scheme.js';
