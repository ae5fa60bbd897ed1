import { LATEST } from '../events/payload-pins.js';
import { MAX_EVENT_TYPE_LENGTH } from '../events/event-type.js';
import { MAX_HEADER_VALUE_LENGTH, MAX_HEADERS } from '../sending/listener-headers.js';
import { MAX_URL_LENGTH } from '../sending/listener-url.js';
import { ORDERINGS } from '../entities/webhook.decorator.js';
import { MAX_TEXT_BYTES } from '../signing/secret.js';
import { HANDSHAKES } from '../options/handshake-methods.js';
import { MASK, MAX_AUTH_TEXT_LENGTH } from './credentials/listener-auth.js';
import { MAX_CERTIFICATES_LENGTH, MAX_KEY_LENGTH, MAX_PASSPHRASE_LENGTH } from './credentials/listener-tls.js';
import { MAX_RATE, MAX_RATE_SECONDS } from '../health/rate-limit.js';
import { OPERATORS } from '../routing/operators.js';

export const MAX_EVENTS = 100;
export const MAX_NAME_LENGTH = 255;
export const MAX_DESCRIPTION_LENGTH = 500;
export const MAX_SCHEMES = 10;
export const MAX_FORMAT_LENGTH = 191;

/** A property schema of OpenAPI 3.0. */
export interface PropertySchema {
  readonly [key: string]: unknown;
  readonly description: string;
}

/**
 * The example of a secret. This example is an invalid secret on purpose: Swagger UI fills forms with examples, and everyone would know a
 * published secret.
 */
const PLACEHOLDER = MASK;

const text = (description: string, more: object = {}): PropertySchema => ({ type: 'string', description, ...more });
const object = (description: string, properties: Record<string, PropertySchema>, required: readonly string[]) => ({
  type: 'object',
  description,
  properties,
  // In OpenAPI 3.0, `required` must have at least one entry.
  ...(required.length === 0 ? {} : { required }),
  additionalProperties: false,
});
const authOf = (
  type: string,
  description: string,
  properties: Record<string, PropertySchema>,
  optional: string[] = [],
) =>
  object(
    description,
    { type: { type: 'string', enum: [type], description: 'The kind of credentials.' }, ...properties },
    ['type', ...Object.keys(properties).filter((name) => !optional.includes(name))],
  );
const headersOf = (description: string, example: object): PropertySchema => ({
  type: 'object',
  description,
  additionalProperties: { type: 'string', maxLength: MAX_HEADER_VALUE_LENGTH },
  maxProperties: MAX_HEADERS,
  example,
});
const AUTH_TEXT = { minLength: 1, maxLength: MAX_AUTH_TEXT_LENGTH };
const SECRET_TEXT = { ...AUTH_TEXT, example: PLACEHOLDER, writeOnly: true };

/** The OpenAPI schemas of the properties that customers may set. A test compares them with the validators and the limits. */
export const LISTENER_SCHEMA = {
  url: text('The URL to which webhooks are sent: https:, a public address, and no user name or password.', {
    format: 'uri',
    maxLength: MAX_URL_LENGTH,
    example: 'https://hooks.example.com/orders',
  }),
  events: {
    type: 'array',
    description: 'Event types, patterns such as order.*, or * for all.',
    items: { type: 'string', maxLength: MAX_EVENT_TYPE_LENGTH },
    minItems: 1,
    maxItems: MAX_EVENTS,
    example: ['order.updated'],
  },
  where: {
    type: 'object',
    description: `A filter for these events: for each property of the payload, a value that the property must equal, or conditions (${OPERATORS.join(', ')}). All conditions must hold.`,
    additionalProperties: true,
    example: { status: { changedTo: 'paid' } },
  },
  name: text('A name for lists.', { maxLength: MAX_NAME_LENGTH, nullable: true, example: 'Billing' }),
  description: text('A description for people.', {
    maxLength: MAX_DESCRIPTION_LENGTH,
    nullable: true,
    example: 'Books paid orders',
  }),
  headers: headersOf(
    'Headers of each request. A response shows the headers of the endpoint, so put credentials into auth.',
    {
      'x-source': 'shop',
    },
  ),
  schemes: {
    type: 'array',
    description: 'Signature schemes. Each scheme adds its headers.',
    items: { type: 'string' },
    minItems: 1,
    maxItems: MAX_SCHEMES,
    default: ['standard'],
    example: ['standard'],
  },
  auth: {
    description:
      'Credentials that the receiving server requires in addition to the signature. Credentials are never shown again. If you change the URL to another origin, give the credentials again. The value null removes the credentials.',
    nullable: true,
    oneOf: [
      authOf('headers', 'Headers whose values are secret.', {
        headers: headersOf('Names and values.', { 'x-api-key': PLACEHOLDER }),
      }),
      authOf('basic', 'HTTP Basic (RFC 7617).', {
        username: text('Without a colon.', { ...AUTH_TEXT, example: 'webhooks' }),
        password: text('The password.', SECRET_TEXT),
      }),
      authOf('bearer', 'A bearer token (RFC 6750).', { token: text('The token.', SECRET_TEXT) }),
      authOf(
        'oauth2',
        'A bearer token that the sender requests with the client credentials grant (RFC 6749, 4.4).',
        {
          tokenUrl: text('The token endpoint.', {
            format: 'uri',
            maxLength: MAX_URL_LENGTH,
            example: 'https://auth.example.com/token',
          }),
          clientId: text('The id of the client.', { ...AUTH_TEXT, example: 'webhooks' }),
          clientSecret: text('The secret of the client.', SECRET_TEXT),
          scope: text('The scope of the token.', { ...AUTH_TEXT, example: 'orders' }),
          audience: text('The audience of the token, if the server requires one.', {
            ...AUTH_TEXT,
            example: 'https://hooks.example.com',
          }),
          clientAuth: text('How the client authenticates: by HTTP Basic, or in the body.', {
            enum: ['basic', 'body'],
            default: 'basic',
            example: 'basic',
          }),
        },
        ['scope', 'audience', 'clientAuth'],
      ),
    ],
    example: { type: 'bearer', token: PLACEHOLDER },
  },
  tls: {
    ...object(
      'A client certificate, if the server requires a client certificate, and the private authorities that signed the certificate of the server. If you change the URL to another origin, give both again. The value null removes both.',
      {
        cert: text('The client certificate and its chain, in PEM.', {
          maxLength: MAX_CERTIFICATES_LENGTH,
          example: `-----BEGIN CERTIFICATE-----\n${PLACEHOLDER}`,
        }),
        key: text('The private key of the certificate, in PEM.', {
          maxLength: MAX_KEY_LENGTH,
          writeOnly: true,
          example: `-----BEGIN PRIVATE KEY-----\n${PLACEHOLDER}`,
        }),
        passphrase: text('The passphrase of an encrypted key.', {
          minLength: 1,
          maxLength: MAX_PASSPHRASE_LENGTH,
          writeOnly: true,
          example: PLACEHOLDER,
        }),
        ca: text('The certificates of private authorities, in PEM.', {
          maxLength: MAX_CERTIFICATES_LENGTH,
          example: `-----BEGIN CERTIFICATE-----\n${PLACEHOLDER}`,
        }),
      },
      [],
    ),
    nullable: true,
    example: { ca: `-----BEGIN CERTIFICATE-----\n${PLACEHOLDER}` },
  },
  format: text('The payload format.', { maxLength: MAX_FORMAT_LENGTH, default: 'standard', example: 'standard' }),
  versions: {
    description:
      'The versions of the payloads, by event type, or the value latest. A type that you do not name gets its newest version, and keeps this version.',
    nullable: true,
    oneOf: [
      { type: 'string', enum: [LATEST], description: 'Always the newest version.' },
      {
        type: 'object',
        description: 'Versions by event type. The value null moves a type to its newest version.',
        additionalProperties: { type: 'integer', minimum: 1, nullable: true },
      },
    ],
    example: { 'order.updated': 1 },
  },
  ordering: text(
    'With the value entity, the events of one object are sent one at a time, in the order in which they happened.',
    {
      enum: [...ORDERINGS],
      default: 'none',
      example: 'none',
    },
  ),
  sequence: {
    type: 'boolean',
    description: 'Adds the header webhook-sequence, a number that grows with each event of one object.',
    default: false,
    example: false,
  },
  rateLimit: {
    ...object(
      'The maximum number of requests in a period. The value null means no limit.',
      {
        limit: { type: 'integer', minimum: 1, maximum: MAX_RATE, description: 'The number of requests.', example: 100 },
        perSeconds: {
          type: 'integer',
          minimum: 1,
          maximum: MAX_RATE_SECONDS,
          description: 'The length of the period, in seconds.',
          example: 60,
        },
      },
      ['limit', 'perSeconds'],
    ),
    nullable: true,
    example: { limit: 100, perSeconds: 60 },
  },
  handshake: text(
    'How the receiver agrees before the first webhook is sent. If you leave handshake out, the service chooses the handshake.',
    {
      enum: [...HANDSHAKES],
      example: 'challenge',
    },
  ),
} satisfies Record<string, PropertySchema>;

/**
 * The schema of `secret`. Only the input for a new listener has this property. The secret of an existing listener is
 * rotated instead.
 */
export const SECRET_SCHEMA: PropertySchema = text(
  'The secret that signs requests. It starts with whsec_, followed by the base64 of 24 to 64 random bytes. If the scheme standard is not used, any text is allowed. Leave secret out to get a new secret. The response shows the secret once.',
  { minLength: 1, maxLength: MAX_TEXT_BYTES, writeOnly: true, example: `whsec_${PLACEHOLDER}` },
);

/**
 * Metadata in the form of the compiler plugin of @nestjs/swagger. The plugin adds a static method `_OPENAPI_METADATA_FACTORY` to classes, and
 * @nestjs/swagger calls this method. The DTOs have this method, so they do not need to import @nestjs/swagger. Applications without
 * @nestjs/swagger load nothing.
 *
 * @see https://docs.nestjs.com/openapi/cli-plugin
 */
export function openApiMetadata(
  schemas: Readonly<Record<string, PropertySchema>>,
  required: readonly string[],
): Record<string, object> {
  const entries = Object.entries(schemas).map(([name, schema]) => {
    const isRequired = required.includes(name);
    // In an object schema, `required` is a list. So `selfRequired` says whether the property itself is required. @nestjs/swagger changes
    // its input, so each call returns a copy.
    return [
      name,
      {
        ...structuredClone(schema),
        ...('required' in schema ? { selfRequired: isRequired } : { required: isRequired }),
      },
    ];
  });
  return Object.fromEntries(entries) as Record<string, object>;
}

/** Only for new listeners. */
export const ENABLED_SCHEMA: PropertySchema = {
  type: 'boolean',
  description: 'false: the endpoint is disabled from the start.',
  default: true,
  example: true,
};
