import {
  ArrayMaxSize,
  ArrayNotEmpty,
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
import { InvalidListenerError } from '../listener-errors.js';
import { HANDSHAKES, type Handshake } from '../options/handshake-methods.js';
import type { ListenerInput, Where } from './listener.js';
import type { ListenerAuth } from './credentials/listener-auth.js';
import type { ListenerTls } from './credentials/listener-tls.js';
import type { RateLimit } from '../health/rate-limit.js';

/** What a customer may change of a listener: for a `PATCH` endpoint behind Nest's `ValidationPipe`. */
export class UpdateListenerDto implements Partial<ListenerInput> {
  @IsOptional()
  @IsString()
  url?: string;

  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(100)
  @IsString({ each: true })
  events?: string[];

  @IsOptional()
  @IsObject()
  where?: Where;

  @IsOptional()
  @IsString()
  @MaxLength(255)
  @Matches(/^[^\0]*$/, { message: 'name must not hold NUL' })
  name?: string | null;

  @IsOptional()
  @IsString()
  @MaxLength(500)
  // PostgreSQL's text takes no NUL.
  @Matches(/^[^\0]*$/, { message: 'description must not hold NUL' })
  description?: string | null;

  @IsOptional()
  @IsObject()
  headers?: Record<string, string>;

  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(10)
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
  @MaxLength(191)
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
}

/**
 * What a customer may say of a new listener: for a `POST` endpoint behind Nest's `ValidationPipe`. The owner is not in it:
 * take that from who is logged in, `listeners.forOwner(user.id).create(dto)`.
 */
export class CreateListenerDto extends UpdateListenerDto implements ListenerInput {
  @IsString()
  declare url: string;

  @IsOptional()
  @IsString()
  secret?: string;
}

/**
 * Checks shapes; what the values mean is checked by who uses them.
 *
 * @throws InvalidListenerError `INVALID_LISTENER`
 */
export function checkShape(dto: new () => object, input: object): void {
  const errors = validateSync(Object.assign(new dto(), input), {
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: true,
    // A secret may stand in it.
    validationError: { target: false, value: false },
  });
  if (errors.length) {
    throw new InvalidListenerError('INVALID_LISTENER', `The listener is not valid: ${sentences(errors)}.`, {
      details: { properties: errors.map((error) => error.property) },
    });
  }
}

function sentences(errors: readonly ValidationError[]): string {
  return errors.flatMap((error) => Object.values(error.constraints ?? {})).join('; ');
}
