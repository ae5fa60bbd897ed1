import type { CatalogType } from './catalog-type.js';

/** Names of the schemas of one event type in a document, unique in the document. */
export interface SchemaNames {
  /** `OrderUpdatedWebhook` */
  readonly payload: string;
  /** `OrderWebhookData`; the same for all types with the same `data`. */
  readonly data: string;
  /** `OrderWebhookPrevious` */
  readonly previous: string;
}

/** The names of the schemas, by event type. The same types give the same names. */
export function schemaNames(types: readonly CatalogType[]): ReadonlyMap<string, SchemaNames> {
  const taken = new Map<string, string>();
  const named = (name: string, key: string): string => {
    for (let n = 1; ; n++) {
      const candidate = n === 1 ? name : `${name}${n}`;
      const owner = taken.get(candidate);
      if (owner !== undefined && owner !== key) continue;
      taken.set(candidate, key);
      return candidate;
    }
  };
  return new Map(
    types.map(({ type, dataName }) => [
      type,
      {
        payload: named(`${pascalCase(type)}Webhook`, `payload ${type}`),
        data: named(`${pascalCase(dataName)}WebhookData`, `data ${dataName}`),
        previous: named(`${pascalCase(dataName)}WebhookPrevious`, `previous ${dataName}`),
      },
    ]),
  );
}

/** @example pascalCase('order_item.updated') // 'OrderItemUpdated' */
function pascalCase(name: string): string {
  const words = name.split(/[._]+/).filter((word) => word !== '');
  const joined = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('');
  // An identifier must not begin with a digit.
  return /^\d/.test(joined) ? `Type${joined}` : joined;
}
