/** An item of a PostgreSQL array. The driver does not parse the arrays of some types, and returns text such as `{a,"b c",NULL}`. */
export type ArrayItem = string | null | ArrayItem[];

/**
 * Parses the text form of a PostgreSQL array.
 *
 * @param delimiter `;` for arrays of `box`, `,` for all other types
 * @returns `null` when the text is not an array
 */
export function parseArray(text: string, delimiter: ',' | ';' = ','): ArrayItem[] | null {
  // If the lower bound is not 1, the text begins with the bounds: `[0:1]={a,b}`.
  const start = /^(?:\[[^=]*\]=)?\{/.exec(text)?.[0].length;
  if (start === undefined) return null;
  const root: ArrayItem[] = [];
  const open = [root];
  const token = new RegExp(String.raw`\{|\}|${delimiter}|"((?:[^"\\]|\\.)*)"|([^{}"${delimiter}]+)`, 'gsy');
  token.lastIndex = start;
  for (let match = token.exec(text); match; match = token.exec(text)) {
    const here = open.at(-1);
    if (!here) return null;
    const [whole, quoted, plain] = match;
    if (quoted !== undefined) here.push(unescaped(quoted));
    else if (plain !== undefined) here.push(/^null$/i.test(plain) ? null : unescaped(plain));
    else if (whole === '}') open.pop();
    else if (whole === '{') {
      const inner: ArrayItem[] = [];
      here.push(inner);
      open.push(inner);
    }
  }
  return open.length ? null : root;
}

/** Parses the text form of an `hstore`: `"a"=>"1", "b"=>NULL`. @returns `null` when the text is not an `hstore` */
export function parseHstore(text: string): [key: string, value: string | null][] | null {
  const pairs: [string, string | null][] = [];
  const pair = /\s*"((?:[^"\\]|\\.)*)"\s*=>\s*(?:NULL|"((?:[^"\\]|\\.)*)")\s*(,|$)/gsy;
  while (pair.lastIndex < text.length) {
    const match = pair.exec(text);
    if (!match) return null;
    pairs.push([unescaped(match[1] ?? ''), match[2] === undefined ? null : unescaped(match[2])]);
  }
  return pairs;
}

function unescaped(text: string): string {
  return text.replaceAll(/\\(.)/gs, '$1');
}

/** The parts of an interval, as `pg` parses them. PostgreSQL stores months, days and microseconds separately. */
type IntervalParts = Partial<
  Record<'years' | 'months' | 'days' | 'hours' | 'minutes' | 'seconds' | 'milliseconds', number>
>;

/** The `to_char()` format for intervals. Text in this format is the same under every `intervalstyle`; {@link intervalDuration} parses it. */
export const INTERVAL_FORMAT = 'FMYYYY|FMMM|FMDD|FMHH24|FMMI|FMSS|FMUS';

/**
 * Converts an interval to an ISO 8601 duration, as PostgreSQL writes it with `intervalstyle = 'iso_8601'`: `P1Y2M3DT4H5M6.789S`.
 *
 * @param value text in {@link INTERVAL_FORMAT}, or the object that the driver parsed
 * @returns `null` when the value has neither form
 */
export function intervalDuration(value: unknown): string | null {
  const parts = typeof value === 'string' ? formattedParts(value) : (value as IntervalParts);
  if (!parts) return null;
  const { years = 0, months = 0, days = 0, hours = 0, minutes = 0 } = parts;
  const microseconds = (parts.seconds ?? 0) * 1_000_000 + Math.round((parts.milliseconds ?? 0) * 1_000);
  const some = (count: number, unit: string) => (count ? `${count}${unit}` : '');
  const date = some(years, 'Y') + some(months, 'M') + some(days, 'D');
  const time = some(hours, 'H') + some(minutes, 'M') + (microseconds ? `${secondsOf(microseconds)}S` : '');
  return date || time ? `P${date}${time && `T${time}`}` : 'PT0S';
}

function formattedParts(text: string): IntervalParts | null {
  if (!/^(?:-?\d+\|){6}-?\d+$/.test(text)) return null;
  const [years, months, days, hours, minutes, seconds, microseconds = 0] = text.split('|').map(Number);
  return { years, months, days, hours, minutes, seconds, milliseconds: microseconds / 1_000 } as IntervalParts;
}

function secondsOf(microseconds: number): string {
  const all = Math.abs(microseconds);
  const fraction = String(all % 1_000_000)
    .padStart(6, '0')
    .replace(/0+$/, '');
  return `${microseconds < 0 ? '-' : ''}${Math.floor(all / 1_000_000)}${fraction && `.${fraction}`}`;
}

/** Bits as PostgreSQL writes them: `101`. MySQL returns whole bytes. So `width` must say how many bits the column declares. */
export function bitText(bytes: Uint8Array, width: number): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits.replace(/^0+/, '').padStart(width, '0');
}

const TIME_WITH_ZONE = /^(\d\d:\d\d)(?::(\d\d)(?:\.(\d*?)0*)?)?([+-]\d\d)(?::?(\d\d))?(:\d\d)?$/;

/** Writes the offset with minutes: `12:34:56.5+02` becomes `12:34:56.5+02:00`. */
export function zonedTime(text: string): string {
  const match = TIME_WITH_ZONE.exec(text);
  if (!match) return text;
  const [, hoursAndMinutes = '', seconds = '00', fraction = '', hours = '', minutes = '00', rest = ''] = match;
  return `${hoursAndMinutes}:${seconds}${fraction && `.${fraction}`}${hours}:${minutes}${rest}`;
}

const INSTANT_IN_RANGE = /"?(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d(?::\d\d)?)(?::\d\d)?"?(?=[,)\]])/g;

/** Converts a range of instants to UTC: `[2026-01-01T00:00:00.000Z,)`. PostgreSQL writes the text in the session's time zone. */
export function rangeOfInstants(text: string): string {
  return text.replaceAll(INSTANT_IN_RANGE, (whole, day: string, time: string, zone: string) => {
    const date = new Date(`${day}T${time}${zone.length === 3 ? `${zone}:00` : zone}`);
    return Number.isNaN(date.getTime()) ? whole : date.toISOString();
  });
}
