import { ConfigurationError } from './errors.js';
import { knownNames } from './known-names.js';
import { show } from './show.js';
import { DAY, HOUR, MINUTE, SECOND } from './time.js';

/** The module that has an option. */
export interface OptionModule {
  readonly name: string;
  /**
   * For each unknown key, by its path: a sentence that says what to do. The path `''` is for options that are no
   * object.
   */
  readonly hints?: Readonly<Record<string, string>>;
}

/** The place of an option, for error messages. */
export interface OptionPlace {
  readonly module: OptionModule;
  /** Path of the option, such as `dispatcher.leaseMs`. */
  readonly key: string;
  /** Whether errors hide texts and objects, because they may contain a secret. */
  readonly isSecret?: boolean;
}

/**
 * One option: its default and its check.
 *
 * @typeParam Given the type that the interface of the options declares
 * @typeParam Resolved the type after the default is filled in
 */
export interface Option<Given, Resolved = Given> {
  /**
   * The default as text, for the docs and for errors, if the default is a number, a text, `true` or `false`.
   * For an option that must be given: `required`.
   */
  readonly default?: string;
  /** The allowed values for the docs. `undefined` for a group whose only rows are the rows of its {@link table}. */
  readonly allowed?: string;
  /** The options of a group. */
  readonly table?: AnyOptionTable;
  /** @throws ConfigurationError `INVALID_OPTION` */
  readonly resolve: (given: Given | undefined, place: OptionPlace) => Resolved;
}

/**
 * The type of a table with one entry for each key of an options interface. With `satisfies`, the compiler rejects a
 * missing key, an unknown key and a wrong type.
 */
export type OptionTable<Options extends object> = {
  readonly [Key in keyof Options]-?: Option<Exclude<Options[Key], undefined>, unknown>;
};

export type AnyOptionTable = Readonly<Record<string, Option<never, unknown>>>;

type Given<Table extends AnyOptionTable> = {
  readonly [Key in keyof Table]?: Table[Key] extends Option<infer G, unknown> ? G : never;
};

/** The options of a table with every default filled in. */
export type Resolved<Table extends AnyOptionTable> = {
  readonly [Key in keyof Table]: Table[Key] extends Option<never, infer R> ? R : never;
};

interface Check<G, R> {
  /** Completes `Allowed: …` in errors. */
  readonly allowed: string;
  /** The allowed values for the docs, if they differ from {@link allowed}. */
  readonly range?: string;
  /** A sentence that says what to do about a wrong value. Only needed if {@link allowed} does not say this. */
  readonly fix?: string;
  readonly isAllowed: (given: unknown) => boolean;
  /** Turns an allowed value into its resolved form. */
  readonly read?: (given: G, place: OptionPlace) => R;
  /** Whether errors hide the value. By default, the setting of the group applies. */
  readonly isSecret?: boolean;
}

/** An option that must be given. */
export function required<G, R = G>(check: Check<G, R>): Option<G, R> {
  const { allowed, range = allowed, fix, isAllowed, read = (value: G) => value as unknown as R } = check;
  return {
    default: 'required',
    allowed: range,
    resolve: (given, place) => {
      const here = { ...place, isSecret: check.isSecret ?? place.isSecret ?? false };
      if (!isAllowed(given)) throw invalidOption(here, given, allowed, fix);
      return read(given as G, here);
    },
  };
}

/** An option with a default. Most of the functions below make such an option for a usual type. @param text as {@link Option.default} */
export function option<G, R = G>(byDefault: R, check: Check<G, R>, text = plain(byDefault)): Option<G, R> {
  const fix = text && `Remove the option to use the default: ${text}.`;
  const { allowed, resolve } = required({ ...check, fix: check.fix ?? fix });
  return {
    default: text,
    allowed,
    resolve: (given, place) => (given === undefined ? byDefault : resolve(given, place)),
  };
}

/** An option without a default. */
export function optional<G>(check: Check<G, G>): Option<G, G | undefined> {
  return option<G, G | undefined>(undefined, check);
}

/** A whole number. @param range the smallest and the largest allowed number */
export const whole = (byDefault: number, range: Range) => wholeOf(byDefault, range);
export const milliseconds = (byDefault: number, range: Range) => wholeOf(byDefault, range, MS);
export const seconds = (byDefault: number, range: Range) => wholeOf(byDefault, range, SECONDS);
export const bytes = (byDefault: number, range: Range) => wholeOf(byDefault, range, BYTES);
/** An option like {@link whole}. The group of the option computes the default. */
export const optionalWhole = (range: Range) => optional<number>(numberIn(range));

export function flag(byDefault: boolean): Option<boolean> {
  return option<boolean>(byDefault, { allowed: 'true, false', isAllowed: (given) => typeof given === 'boolean' });
}

export function oneOf<const T extends string>(byDefault: NoInfer<T>, known: readonly T[]): Option<T> {
  return option<T>(byDefault, {
    allowed: known.map((name) => `'${name}'`).join(', '),
    isAllowed: (given) => known.includes(given as T),
    isSecret: false,
  });
}

/** @param allowed describes the function */
export function optionalFunction<F>(allowed: string): Option<F, F | undefined> {
  return optional<F>({ allowed, isAllowed: (given) => typeof given === 'function' });
}

/**
 * A group of options. Without a value, every default is used.
 *
 * @param finish checks options against each other, or completes them
 */
export function group<Table extends AnyOptionTable>(table: Table): Option<Given<Table>, Resolved<Table>>;
export function group<Table extends AnyOptionTable, R>(
  table: Table,
  finish: (resolved: Resolved<Table>, place: OptionPlace) => R,
): Option<Given<Table>, R>;
export function group(
  table: AnyOptionTable,
  finish: (resolved: Record<string, unknown>, place: OptionPlace) => unknown = (resolved) => resolved,
): Option<object, unknown> {
  return {
    table,
    resolve: (given, place) => {
      // The options of a module have no default as a whole. Otherwise a factory without `return` would silently use
      // every default.
      const options: unknown = given === undefined && place.key !== '' ? {} : given;
      if (!isObject(options)) throw invalidOption(hidden(place), given, 'an object', hintOf(place));
      refuseUnknownKeys(options, Object.keys(table), place);
      const resolved = Object.entries(table).map(([key, { resolve }]) => [
        key,
        resolve(options[key] as never, within(place, key)),
      ]);
      return Object.freeze(finish(Object.fromEntries(resolved) as Record<string, unknown>, place));
    },
  };
}

/** Fills in the defaults of the options of a module and checks them. @throws ConfigurationError `INVALID_OPTION` */
export function resolveTable<Table extends AnyOptionTable>(
  table: Table,
  given: Given<Table>,
  module: OptionModule,
): Resolved<Table> {
  return group(table).resolve(given, { module, key: '' });
}

/** A group that `false` turns off. @param byDefault used if there is no value */
export function canBeOff<G extends object, R>(group: Option<G, R>, byDefault: G | false): Option<G | false, R | false> {
  const allowed = 'false, or an object';
  return {
    ...group,
    allowed,
    resolve: (given = byDefault, place) => {
      if (given === false) return false;
      if (!isObject(given)) throw invalidOption(hidden(place), given, allowed, 'Use {} for every default.');
      return group.resolve(given, place);
    },
  };
}

/** A group without a default: `null` if no value is given. */
export function optionalGroup<G, R>(group: Option<G, R>): Option<G, R | null> {
  return {
    ...group,
    allowed: 'an object',
    resolve: (given, place) => (given === undefined ? null : group.resolve(given, place)),
  };
}

/** Errors about this option and the options in it hide texts and objects. */
export function secret<G, R>(option: Option<G, R>): Option<G, R> {
  return { ...option, resolve: (given, place) => option.resolve(given, hidden(place)) };
}

/** The place of an option in a group. */
export function within(place: OptionPlace, key: string): OptionPlace {
  return { ...place, key: place.key === '' ? key : `${place.key}.${key}` };
}

/**
 * The error for a wrong value of an option.
 *
 * @param allowed completes `Allowed: …`
 * @param fix what to do: a sentence
 */
export function invalidOption(place: OptionPlace, value: unknown, allowed: string, fix = ''): ConfigurationError {
  const { module, key, isSecret = false } = place;
  const name = key === '' ? 'the options' : `\`${key}\``;
  return new ConfigurationError(
    'INVALID_OPTION',
    `Invalid value ${shown(value, isSecret)} for ${name} of ${module.name}. Allowed: ${allowed}.${fix && ` ${fix}`}`,
    { details: { key } },
  );
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

type Range = readonly [min: number, max: number];

/** A unit, and the names of its multiples for large numbers. */
interface Unit {
  readonly name: string;
  readonly multiples: readonly (readonly [size: number, name: string])[];
}

const DAYS = [DAY, 'days'] as const;
const MS: Unit = { name: 'ms', multiples: [[365 * DAY, 'years'], DAYS, [HOUR, 'hours'], [MINUTE, 'minutes']] };
const SECONDS: Unit = { name: 'seconds', multiples: [[DAY / SECOND, 'days']] };
const BYTES: Unit = { name: 'bytes', multiples: [[1_024 ** 2, 'MiB'], [1_024, 'KiB']] }; // prettier-ignore

function wholeOf(byDefault: number, range: Range, unit?: Unit): Option<number> {
  return option<number>(byDefault, numberIn(range, unit), amount(byDefault, unit));
}

function numberIn([min, max]: Range, unit?: Unit): Check<number, number> {
  const range = `${amount(min, unit)} to ${amount(max, unit)}`;
  return {
    allowed: `a whole number ${unit ? `of ${unit.name} ` : ''}from ${range}`,
    range: unit ? `${unit.name}, ${range}` : range,
    isAllowed: (given) => Number.isInteger(given) && (given as number) >= min && (given as number) <= max,
  };
}

/** @example `86,400,000 (1 day)` */
function amount(value: number, { multiples }: Unit = { name: '', multiples: [] }): string {
  const digits = value.toLocaleString('en-US');
  const [size, name] = multiples.find(([size]) => value > 0 && value % size === 0) ?? [];
  if (size === undefined || name === undefined) return digits;
  return `${digits} (${value / size} ${value === size ? name.replace(/s$/, '') : name})`;
}

/** Without this check, a misspelt key would silently leave the default in place. The error does not show the value. */
function refuseUnknownKeys(given: object, known: readonly string[], place: OptionPlace): void {
  const unknown = Object.keys(given).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const here = within(place, unknown);
  const hint = hintOf(here);
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Unknown option \`${here.key}\` of ${place.module.name}.${hint ? ` ${hint}` : knownNames(unknown, known)}`,
    { details: { key: here.key } },
  );
}

function hintOf({ module: { hints = {} }, key }: OptionPlace): string | undefined {
  return Object.hasOwn(hints, key) ? hints[key] : undefined;
}

function hidden(place: OptionPlace): OptionPlace {
  return { ...place, isSecret: true };
}

function plain(byDefault: unknown): string | undefined {
  return ['number', 'string', 'boolean'].includes(typeof byDefault) ? quoted(byDefault) : undefined;
}

function shown(value: unknown, isSecret: boolean): string {
  const isHarmless = value === '' || value === null || !['string', 'object'].includes(typeof value);
  return isSecret && !isHarmless ? "'…'" : quoted(value);
}

function quoted(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : show(value);
}
