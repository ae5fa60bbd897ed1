import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Body, Controller, Patch, Post, ValidationPipe } from '@nestjs/common';
import { DocumentBuilder, PickType, SwaggerModule } from '@nestjs/swagger';
import { getMetadataStorage } from 'class-validator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { CreateListenerDto, UpdateListenerDto, Webhook, type CreateListenerInput } from 'nestjs-entity-webhooks';
import { certificateFor, encryptedKey } from '../support/certificates.js';
import { createSqlite, type FreshDatabase } from '../support/fresh-database.js';
import { WORKSPACE } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customer' })
@Entity()
class Order {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  status: string;
}

class ShortDto extends PickType(CreateListenerDto, ['url', 'rateLimit']) {}

const valid = new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true });

@Controller('listeners')
class ListenersController {
  @Post()
  create(@Body(valid) dto: CreateListenerDto): CreateListenerDto {
    return dto;
  }
  @Patch()
  update(@Body(valid) dto: UpdateListenerDto): UpdateListenerDto {
    return dto;
  }
  @Post('short')
  short(@Body(valid) dto: ShortDto): ShortDto {
    return dto;
  }
}

interface Schema {
  type?: string;
  description?: string;
  example?: unknown;
  required?: string[];
  properties?: Record<string, Schema>;
  oneOf?: Schema[];
  items?: Schema;
  enum?: unknown[];
  default?: unknown;
  nullable?: boolean;
  writeOnly?: boolean;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  minimum?: number;
  maximum?: number;
  additionalProperties?: boolean | Schema;
}

describe('the OpenAPI document that @nestjs/swagger makes', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let schemas: Record<string, Schema>;

  beforeAll(async () => {
    fresh = await createSqlite();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      controllers: [ListenersController],
      webhooks: {
        // What a name that is in no DNS points to.
        security: {
          lookup: (_name, _options, answer) => (answer as (...args: unknown[]) => void)(null, '93.184.215.14', 4),
        },
      },
    });
    const document = SwaggerModule.createDocument(app.app, new DocumentBuilder().build());
    schemas = document.components?.schemas as Record<string, Schema>;
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const propertiesOf = (dto: string) => schemas[dto]?.properties ?? {};
  const property = (name: string) => propertiesOf('CreateListenerDto')[name] as Schema;
  const validated = (dto: new () => object) => [
    ...new Set(
      getMetadataStorage()
        .getTargetValidationMetadatas(dto, '', true, false)
        .map(({ propertyName }) => propertyName),
    ),
  ];
  /** Every nested schema, with its path. */
  function* within(schema: Schema, path: string): Generator<[string, Schema]> {
    yield [path, schema];
    for (const [name, inner] of Object.entries(schema.properties ?? {})) yield* within(inner, `${path}.${name}`);
    for (const inner of schema.oneOf ?? [])
      yield* within(inner, `${path}(${String(inner.properties?.type?.enum?.[0])})`);
  }

  it('lists each property that the validators accept, and no other', () => {
    for (const dto of [CreateListenerDto, UpdateListenerDto]) {
      expect(Object.keys(propertiesOf(dto.name)).toSorted()).toEqual(validated(dto).toSorted());
    }
    expect(property('secret')).toBeDefined();
    expect(propertiesOf('UpdateListenerDto').secret).toBeUndefined();
  });

  it('lists the required properties', () => {
    expect(schemas.CreateListenerDto?.required).toEqual(['url']);
    expect(schemas.UpdateListenerDto?.required).toBeUndefined();
    expect(property('rateLimit').required).toEqual(['limit', 'perSeconds']);
    expect(property('auth').oneOf?.map(({ required }) => required)).toEqual([
      ['type', 'headers'],
      ['type', 'username', 'password'],
      ['type', 'token'],
      ['type', 'tokenUrl', 'clientId', 'clientSecret'],
    ]);
    for (const [path, schema] of within(property('tls'), 'tls'))
      expect([path, schema.required]).toEqual([path, undefined]);
  });

  it('has a type, a description and an example for each property, also for nested ones', () => {
    const called: string[] = [];
    for (const [name, schema] of Object.entries(propertiesOf('CreateListenerDto'))) {
      for (const [path, inner] of within(schema, name)) {
        expect([path, inner.description?.length ?? 0]).toEqual([path, expect.any(Number)]);
        expect(inner.description, path).toMatch(/\S.*\.$/);
        expect(inner.type ?? inner.oneOf, path).toBeDefined();
        const isOneOfSeveral = path.endsWith(')');
        if (!isOneOfSeveral && !inner.enum) expect(inner.example, path).toBeDefined();
        called.push(path);
      }
    }
    expect(called).toEqual(
      expect.arrayContaining(['tls.cert', 'rateLimit.perSeconds', 'auth(basic).password', 'auth(oauth2).clientAuth']),
    );
    expect(property('ordering')).toMatchObject({ type: 'string', enum: ['none', 'entity'], default: 'none' });
    expect(property('handshake')).toMatchObject({ type: 'string', enum: ['none', 'challenge', 'cloudevents'] });
    expect(property('events')).toMatchObject({ type: 'array', items: { type: 'string', maxLength: 128 } });
    expect(['name', 'auth', 'tls', 'rateLimit'].map((name) => property(name).nullable)).toEqual([
      true,
      true,
      true,
      true,
    ]);
  });

  it('describes types that are derived from the DTOs', () => {
    expect(Object.keys(propertiesOf('ShortDto')).toSorted()).toEqual(['rateLimit', 'url']);
    expect(schemas.ShortDto?.required).toEqual(['url']);
    expect(propertiesOf('ShortDto').rateLimit).toEqual(property('rateLimit'));
  });

  describe('matches the service:', () => {
    const url = 'https://hooks.example.com/';
    const create = (more: object) => app.listeners.create({ url, events: ['order.*'], ...more } as CreateListenerInput);
    const refused = (more: object, code: string) => expect(create(more)).rejects.toMatchObject({ code });
    const x = (length = 0) => 'x'.repeat(length);

    it('the examples make a listener, except the examples of secrets, which are refused', async () => {
      const examples = Object.fromEntries(
        Object.entries(propertiesOf('CreateListenerDto')).map(([name, { example }]) => [name, example]),
      );
      const { secret, auth, tls, ...others } = examples;
      await create(others);
      await refused({ ...others, secret }, 'INVALID_SECRET');
      await refused({ ...others, auth }, 'INVALID_AUTH');
      await refused({ ...others, tls }, 'INVALID_CERTIFICATE');
      for (const { properties = {} } of property('auth').oneOf ?? []) {
        const given = Object.fromEntries(
          Object.entries(properties).map(([name, inner]) => [name, inner.example ?? inner.enum?.[0]]),
        );
        await refused({ auth: given }, 'INVALID_AUTH');
      }
    });

    it('texts and lists of the maximum length are accepted, and longer ones are refused', async () => {
      const { maxLength: name } = property('name');
      await create({ name: x(name) });
      await refused({ name: x(Number(name) + 1) }, 'INVALID_LISTENER');
      const { maxLength: description } = property('description');
      await create({ description: x(description) });
      await refused({ description: x(Number(description) + 1) }, 'INVALID_LISTENER');
      const longUrl = (length = 0) => url + x(length - url.length);
      const { maxLength: urlLength } = property('url');
      await create({ url: longUrl(urlLength) });
      await refused({ url: longUrl(Number(urlLength) + 1) }, 'INVALID_URL');
      const { maxItems, minItems } = property('events');
      await create({ events: Array<string>(Number(maxItems)).fill('order.*') });
      await refused({ events: Array<string>(Number(maxItems) + 1).fill('order.*') }, 'INVALID_LISTENER');
      await refused({ events: Array<string>(Number(minItems) - 1).fill('order.*') }, 'INVALID_LISTENER');
      const schemes = property('schemes').maxItems ?? 0;
      await create({ schemes: Array<string>(schemes).fill('standard') });
      await refused({ schemes: Array<string>(schemes + 1).fill('standard') }, 'INVALID_LISTENER');
      await refused({ format: x(Number(property('format').maxLength) + 1) }, 'INVALID_LISTENER');
      const headers = property('headers').maxProperties ?? 0;
      const of = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-${n}`, '1']));
      await create({ headers: of(headers) });
      await refused({ headers: of(headers + 1) }, 'INVALID_HEADER');
      const value = (property('headers').additionalProperties as Schema).maxLength ?? 0;
      await create({ headers: { x: x(value) } });
      await refused({ headers: { x: x(value + 1) } }, 'INVALID_HEADER');
      const secret = property('secret').maxLength ?? 0;
      await create({ schemes: ['github'], secret: x(secret) });
      await refused({ schemes: ['github'], secret: x(secret + 1) }, 'INVALID_SECRET');
    });

    it('credentials and certificates of the maximum length are accepted, and longer ones are refused', async () => {
      const [, basic, bearer, oauth2] = property('auth').oneOf ?? [];
      const password = basic?.properties?.password?.maxLength ?? 0;
      await create({ auth: { type: 'basic', username: 'a', password: x(password) } });
      await refused({ auth: { type: 'basic', username: 'a', password: x(password + 1) } }, 'INVALID_AUTH');
      const token = bearer?.properties?.token?.maxLength ?? 0;
      await create({ auth: { type: 'bearer', token: x(token) } });
      await refused({ auth: { type: 'bearer', token: x(token + 1) } }, 'INVALID_AUTH');
      const client = { type: 'oauth2', tokenUrl: url, clientId: 'a', clientSecret: 'b' };
      for (const clientAuth of oauth2?.properties?.clientAuth?.enum ?? [])
        await create({ auth: { ...client, clientAuth } });
      await refused({ auth: { ...client, clientAuth: 'none' } }, 'INVALID_AUTH');
      await refused({ auth: { ...client, other: 1 } }, 'INVALID_AUTH');
      const { cert, key } = await certificateFor('client.test');
      const sealed = await encryptedKey(key, 'right');
      const cases = [
        ['ca', {}, 'INVALID_CERTIFICATE'],
        ['cert', { key: 'x' }, 'INVALID_CERTIFICATE'],
        ['key', { cert }, 'INVALID_PRIVATE_KEY'],
        ['passphrase', { cert, key: sealed }, 'INVALID_PRIVATE_KEY'],
      ] as const;
      for (const [name, others, code] of cases) {
        const length = property('tls').properties?.[name]?.maxLength ?? 0;
        // First a text of an accepted length that is not a certificate, then a longer text.
        await refused({ tls: { ...others, [name]: x(length) } }, code);
        await refused({ tls: { ...others, [name]: x(length + 1) } }, 'INVALID_TLS');
      }
    });

    it('numbers and enumerations in their ranges are accepted, and others are refused', async () => {
      const { limit, perSeconds } = property('rateLimit').properties ?? {};
      const largest = { limit: limit?.maximum, perSeconds: perSeconds?.maximum };
      const least = { limit: limit?.minimum, perSeconds: perSeconds?.minimum };
      await create({ rateLimit: largest });
      await create({ rateLimit: least });
      await create({ rateLimit: null });
      for (const wrong of [
        { ...largest, limit: Number(limit?.maximum) + 1 },
        { ...largest, perSeconds: Number(perSeconds?.maximum) + 1 },
        { ...least, limit: 0 },
        { ...least, perSeconds: 0 },
        { limit: 1 },
      ]) {
        await refused({ rateLimit: wrong }, 'INVALID_RATE_LIMIT');
      }
      for (const ordering of property('ordering').enum ?? []) await create({ ordering });
      await refused({ ordering: 'other' }, 'INVALID_LISTENER');
      const defaults = { format: 'standard', schemes: ['standard'], ordering: 'none', sequence: false };
      for (const [name, value] of Object.entries(defaults))
        expect([name, property(name).default]).toEqual([name, value]);
      expect(await create({})).toMatchObject(defaults);
    });
  });
});

describe('an application without @nestjs/swagger', () => {
  it('does not load it', async () => {
    const folder = join(WORKSPACE, 'libs/webhooks/src');
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith('.ts')) continue;
      expect(await readFile(join(folder, file), 'utf8'), file).not.toMatch(
        // The API loads it with createRequire() if the application has it.
        /(?:from|import)\s*\(?\s*['"]@nestjs\/swagger/,
      );
    }
    const manifest = JSON.parse(await readFile(join(WORKSPACE, 'libs/webhooks/package.json'), 'utf8')) as {
      dependencies: object;
      peerDependenciesMeta: Record<string, object>;
    };
    expect(Object.keys(manifest.dependencies)).not.toContain('@nestjs/swagger');
    expect(manifest.peerDependenciesMeta['@nestjs/swagger']).toEqual({ optional: true });
  });
});
