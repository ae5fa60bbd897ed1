import { OPERATORS, type Operator } from '../../../../src/routing/operators.js';

/** A row of the builder. */
export interface Row {
  readonly key: number;
  readonly path: string;
  readonly operator: Operator;
  /** As it was typed: `true` and `false` for yes and no, values of a list with commas. */
  readonly text: string;
  /** The value that the listener had. It is kept exactly, until the text changes. */
  readonly given?: unknown;
}

export type Where = Readonly<Record<string, unknown>>;

/** What the catalogue says about a property. */
export type Kind = 'text' | 'number' | 'yes-no' | 'unknown';

export const isYesNo = (operator: Operator): boolean => operator === 'exists' || operator === 'changed';

let keys = 0;

export function newRow(path = ''): Row {
  return { key: ++keys, path, operator: 'equals', text: '' };
}

/** The rows of a stored filter. */
export function rowsOf(where: Where, parent = ''): Row[] {
  return Object.entries(where).flatMap(([name, value]) => {
    const path = parent === '' ? name : `${parent}.${name}`;
    if (!isObject(value)) return [rowOf(path, 'equals', value)];
    const names = Object.keys(value);
    const isConditions = names.every((one) => (OPERATORS as readonly string[]).includes(one));
    if (!isConditions) return rowsOf(value, path);
    return names.map((operator) => rowOf(path, operator as Operator, value[operator]));
  });
}

function rowOf(path: string, operator: Operator, given: unknown): Row {
  return { key: ++keys, path, operator, text: textOf(given), given };
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The filter of the rows. Rows without a property are left out. */
export function whereOf(rows: readonly Row[], kindOf: (path: string) => Kind): Where {
  const where: Record<string, Record<string, unknown>> = {};
  for (const row of rows) {
    const path = row.path.trim();
    if (path !== '') where[path] = { ...where[path], [row.operator]: valueOf(row, kindOf(path)) };
  }
  return Object.fromEntries(
    Object.entries(where).map(([path, conditions]) => {
      const isPlain = Object.keys(conditions).length === 1 && 'equals' in conditions;
      return [path, isPlain ? conditions['equals'] : conditions];
    }),
  );
}

function valueOf({ operator, text, given }: Row, kind: Kind): unknown {
  if (given !== undefined && textOf(given) === text) return given;
  if (isYesNo(operator)) return text !== 'false';
  if (operator !== 'in') return scalarOf(text.trim(), kind);
  const texts = text.split(',').map((one) => one.trim());
  return texts.filter(Boolean).map((one) => scalarOf(one, kind));
}

function scalarOf(text: string, kind: Kind): unknown {
  if (text === 'null') return null;
  switch (kind) {
    case 'text':
      return text;
    case 'number':
      // Long numbers stay text: the API compares them by value, and a number of JavaScript would lose digits.
      return text !== '' && String(Number(text)) === text ? Number(text) : text;
    case 'yes-no':
      // The list of the two shows yes before anybody chose.
      return text === 'false' ? false : text === 'true' || text === '' ? true : text;
    case 'unknown':
      return /^(?:true|false|0|-?[1-9]\d{0,14})$/.test(text) ? (JSON.parse(text) as unknown) : text;
  }
}

function isObject(value: unknown): value is Where {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
