import type { ReactNode } from 'react';
import { t } from '../../words/words.js';

interface Schema {
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

interface Field {
  readonly path: string;
  readonly schema: Schema;
}

/** The fields of a payload, nested ones with their whole path. */
export function FieldTable({ schema }: { readonly schema: object }): ReactNode {
  const fields = [...fieldsOf(schema as Schema, '')];
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={t('catalogue.schema')}>
      <table className="table fields-table">
        <thead>
          <tr>
            <th scope="col">{t('event.field')}</th>
            <th scope="col">{t('catalogue.kind')}</th>
            <th scope="col">{t('catalogue.meaning')}</th>
          </tr>
        </thead>
        <tbody>
          {fields.map(({ path, schema }) => (
            <tr key={path}>
              <td className="mono break">{path}</td>
              <td className="secondary nowrap">{kindOf(schema)}</td>
              <td className="secondary">{schema.description}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function* fieldsOf({ properties, anyOf }: Schema, prefix: string): Generator<Field> {
  // The first form of a payload is the whole one. The other one is cut, because it was too long.
  const [whole] = anyOf ?? [];
  if (!properties) return whole ? yield* fieldsOf(whole, prefix) : undefined;
  for (const [name, schema] of Object.entries(properties)) {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    yield { path, schema };
    // `previous` repeats what `data` has.
    if (path !== 'previous') yield* fieldsOf(schema, path);
  }
}

function kindOf({ type, format, enum: values, const: only, items }: Schema): string {
  if (only !== undefined) return JSON.stringify(only);
  if (values) return values.map((value) => JSON.stringify(value)).join(' | ');
  const types = typeof type === 'string' ? [type] : (type ?? [t('catalogue.any')]);
  const named = types.map((one) => (one === 'array' && items ? `${kindOf(items)}[]` : one));
  return named.join(' | ') + (format === undefined ? '' : ` (${format})`);
}
