import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';
import { webhookCatalog, type WebhookCatalog } from 'nestjs-entity-webhooks/catalog';
import type { TestApp } from './webhooks-app.js';

const OPTIONS = { strict: true, allowUnionTypes: true } as const;

/** Validators of both drafts that the schemas of the catalogue are written for. */
function validators(): Ajv[] {
  const both = [new Ajv(OPTIONS), new Ajv2020(OPTIONS)];
  for (const ajv of both) addFormats.default(ajv);
  return both;
}

/** Finds what is wrong with a payload by the schema of its type. */
export class PayloadSchemas {
  private readonly validate = new Map<string, ValidateFunction[]>();

  constructor(catalog: WebhookCatalog) {
    const both = validators();
    for (const { type, schema } of catalog.types) {
      const checks = both.map((ajv) => ajv.compile(schema));
      this.validate.set(type, checks);
    }
  }

  static async of(app: TestApp): Promise<PayloadSchemas> {
    return new PayloadSchemas(await webhookCatalog(app.app));
  }

  /** @param payload `timestamp` may be missing */
  mistakesOf(payload: { type: string; data: object; previous?: object }): string[] {
    const complete = { timestamp: '2026-01-01T00:00:00.000Z', ...payload };
    const checks = this.validate.get(payload.type);
    if (!checks) return [`${payload.type} is not in the catalogue`];
    return checks.flatMap((check) =>
      check(complete)
        ? []
        : (check.errors ?? []).map(
            (error) => `${payload.type}${error.instancePath} ${error.message ?? ''}: ${JSON.stringify(payload)}`,
          ),
    );
  }
}
