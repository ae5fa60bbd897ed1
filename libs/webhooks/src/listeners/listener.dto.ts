import {
  ArrayMaxSize,
  ArrayNotEmpty,
  getMetadataStorage,
  IsArray,
  IsBoolean,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  MaxLength,
  ValidateBy,
  validateSync,
  type ValidationError,
} from 'class-validator';
import { ORDERINGS, type Ordering } from '../entities/webhook.decorator.js';
import { LATEST, type VersionPinsInput } from '../events/payload-pins.js';
import { STORED_UNCHANGED } from '../foreign-text.js';
import { isPlainObject } from '../json.js';
import { knownNames } from '../known-names.js';
import { InvalidListenerError } from '../listener-errors.js';
import { HANDSHAKES, type Handshake } from '../options/handshake-methods.js';
import type { ListenerInput, Where } from './listener.js';
import type { ListenerAuth } from './credentials/listener-auth.js';
import type { ListenerTls } from './credentials/listener-tls.js';
import type { RateLimit } from '../health/rate-limit.js';
import {
  LISTENER_SCHEMA,
  MAX_DESCRIPTION_LENGTH,
  MAX_EVENTS,
  MAX_FORMAT_LENGTH,
  MAX_NAME_LENGTH,
  MAX_SCHEMES,
  openApiMetadata,
  ENABLED_SCHEMA,
  SECRET_SCHEMA,
} from './listener-schema.js';

function isVersionPins(value: unknown): boolean {
  if (value === LATEST) return true;
  return (
    isPlainObject(value) && Object.values(value).every((version) => version === null || Number.isSafeInteger(version))
  );
}

const NOT_STORED = 'NUL or half a surrogate pair';

/**
 * The body of a `PATCH` endpoint for customers. Use this class with Nest's `ValidationPipe`. @nestjs/swagger lists the
 * properties of the class.
 */
export class UpdateListenerDto implements Partial<ListenerInput> {
  @IsOptional()
  @IsString()
  url?: string;

  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(MAX_EVENTS)
  @IsString({ each: true })
  events?: string[];

  @IsOptional()
  @IsObject()
  where?: Where;

  @IsOptional()
  @IsString()
  @MaxLength(MAX_NAME_LENGTH)
  @Matches(STORED_UNCHANGED, { message: `name must not contain ${NOT_STORED}` })
  name?: string | null;

  @IsOptional()
  @IsString()
  @MaxLength(MAX_DESCRIPTION_LENGTH)
  @Matches(STORED_UNCHANGED, { message: `description must not contain ${NOT_STORED}` })
  description?: string | null;

  @IsOptional()
  @IsObject()
  headers?: Record<string, string>;

  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(MAX_SCHEMES)
  @IsString({ each: true })
  schemes?: string[];

  @IsOptional()
  @IsObject()
  auth?: ListenerAuth | null;

  @IsOptional()
  @IsObject()
  tls?: ListenerTls | null;

  @IsOptional()
  @IsString()
  @MaxLength(MAX_FORMAT_LENGTH)
  format?: string;

  @IsOptional()
  @ValidateBy({
    name: 'isVersionPins',
    validator: {
      validate: isVersionPins,
      defaultMessage: () => "versions must be 'latest', or an object of event types and whole numbers or null",
    },
  })
  versions?: VersionPinsInput | null;

  @IsOptional()
  @IsIn(ORDERINGS)
  ordering?: Ordering;

  @IsOptional()
  @IsBoolean()
  sequence?: boolean;

  @IsOptional()
  @IsObject()
  rateLimit?: RateLimit | null;

  @IsOptional()
  @IsIn(HANDSHAKES)
  handshake?: Handshake;

  /** @nestjs/swagger calls this method if the application has that package. @internal */
  static _OPENAPI_METADATA_FACTORY(): Record<string, object> {
    return openApiMetadata(LISTENER_SCHEMA, []);
  }
}

/**
 * The body of a `POST` endpoint for customers. Use this class with Nest's `ValidationPipe`. The body has no owner. Take the owner from the
 * logged-in user: `listeners.forOwner(user.id).create(dto)`. @nestjs/swagger lists the properties of the class.
 */
export class CreateListenerDto extends UpdateListenerDto implements ListenerInput {
  @IsString()
  declare url: string;

  @IsOptional()
  @IsString()
  secret?: string;

  @IsOptional()
  @IsBoolean()
  enabled?: boolean;

  /** @internal */
  static override _OPENAPI_METADATA_FACTORY(): Record<string, object> {
    return openApiMetadata({ ...LISTENER_SCHEMA, secret: SECRET_SCHEMA, enabled: ENABLED_SCHEMA }, ['url']);
  }
}

/**
 * Checks the names and the types of the properties. The code that uses a value checks the meaning of the value.
 *
 * @param others properties that the caller checks. Errors also list these properties as known
 * @throws InvalidListenerError `INVALID_LISTENER`
 */
export function checkShape(dto: new () => object, input: object, others: readonly string[]): void {
  const errors = validateSync(Object.assign(new dto(), input), {
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: true,
    // The input may contain a secret.
    validationError: { target: false, value: false },
  });
  if (errors.length) {
    const known = [...propertiesOf(dto), ...others];
    throw new InvalidListenerError('INVALID_LISTENER', `The listener is not valid: ${sentences(errors, known)}`, {
      details: { properties: errors.map((error) => error.property) },
    });
  }
}

function sentences(errors: readonly ValidationError[], known: readonly string[]): string {
  const unknown = errors.find(({ constraints }) => constraints?.whitelistValidation !== undefined);
  const wrong = errors.filter((error) => error !== unknown);
  const texts = wrong.flatMap((error) => Object.values(error.constraints ?? {}));
  const others = texts.length === 0 ? [] : [`${texts.join('; ')}.`];
  if (unknown === undefined) return others.join(' ');
  const { property } = unknown;
  return [`there is no property '${property.slice(0, 64)}'.${knownNames(property, known)}`, ...others].join(' ');
}

/** The names of the properties of a DTO. The validators of the DTO have these names. */
function propertiesOf(dto: new () => object): string[] {
  const metadata = getMetadataStorage().getTargetValidationMetadatas(dto, '', true, false);
  return [...new Set(metadata.map(({ propertyName }) => propertyName))];
}
