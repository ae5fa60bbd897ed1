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
  validateSync,
  type ValidationError,
} from 'class-validator';
import { ORDERINGS, type Ordering } from '../entities/webhook.decorator.js';
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
  SECRET_SCHEMA,
} from './listener-schema.js';

/** The body of a `PATCH` endpoint for customers: use it with Nest's `ValidationPipe`. @nestjs/swagger lists its properties. */
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
  @Matches(/^[^\0]*$/, { message: 'name must not contain NUL' })
  name?: string | null;

  @IsOptional()
  @IsString()
  @MaxLength(MAX_DESCRIPTION_LENGTH)
  // PostgreSQL's `text` does not accept NUL.
  @Matches(/^[^\0]*$/, { message: 'description must not contain NUL' })
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
 * The body of a `POST` endpoint for customers: use it with Nest's `ValidationPipe`. It has no owner. Take the owner from the logged-in user:
 * `listeners.forOwner(user.id).create(dto)`. @nestjs/swagger lists its properties.
 */
export class CreateListenerDto extends UpdateListenerDto implements ListenerInput {
  @IsString()
  declare url: string;

  @IsOptional()
  @IsString()
  secret?: string;

  /** @internal */
  static override _OPENAPI_METADATA_FACTORY(): Record<string, object> {
    return openApiMetadata({ ...LISTENER_SCHEMA, secret: SECRET_SCHEMA }, ['url']);
  }
}

/**
 * Checks the shape of the input. The code that uses a value checks its meaning.
 *
 * @param others properties that the caller checks. An error also lists them as known
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

/** The properties of a DTO, from its own validators. */
function propertiesOf(dto: new () => object): string[] {
  const metadata = getMetadataStorage().getTargetValidationMetadatas(dto, '', true, false);
  return [...new Set(metadata.map(({ propertyName }) => propertyName))];
}
