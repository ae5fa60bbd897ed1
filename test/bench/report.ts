import type { Result, Target } from './scenario.js';

/** One line of the table. */
interface Line {
  readonly scenario: string;
  readonly database: string;
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  readonly met: '' | 'met' | 'missed' | 'not compared';
}

/** One flat object per result, for the file of `--json`. */
export function asJson({ name, database, unit, value, ratios, targets, options, details }: Result): object {
  return { name, database, unit, value, ...ratios, targets: targets ?? {}, options, details: details ?? {} };
}

/** A table in Markdown, for the terminal and for `docs/performance.md`. */
export function table(results: readonly Result[]): string {
  const header = ['scenario', 'database', 'what', 'measured', 'target', ''];
  const lines = results
    .flatMap(linesOf)
    .map(({ scenario, database, what, measured, target, met }) => [scenario, database, what, measured, target, met]);
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]?.length ?? 0)));
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 3 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `| ${widths.map((width, i) => (i === 3 ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))).join(' | ')} |`;
  return [row(header), rule, ...lines.map(row)].join('\n');
}

/** The settings of each scenario, for below its lines: sizes, options, and other observations. */
export function settings(results: readonly Result[]): string {
  return results
    .map(({ name, database, options, details = {} }) => {
      const said = (values: Readonly<Record<string, unknown>>): string =>
        Object.entries(values)
          .map(([key, value]) => `${key} ${typeof value === 'number' ? number(value) : String(value)}`)
          .join('; ');
      const seen = Object.keys(details).length ? `. Seen: ${said(details)}` : '';
      return `- \`${name}\`${database ? ` on ${database}` : ''}: ${said(options)}${seen}`;
    })
    .join('\n');
}

function linesOf(result: Result): Line[] {
  const { name, database, unit, value, ratios, targets = {} } = result;
  const line = (what: string, measured: number | undefined, text: string): Line => ({
    scenario: name,
    database: database ?? '',
    what,
    measured: text,
    target: targetText(targets[what === unit ? 'value' : what]),
    met: verdict(measured, targets[what === unit ? 'value' : what]),
  });
  return [
    line(unit, value, number(value)),
    ...Object.entries(ratios)
      .filter(([ratio, measured]) => measured !== undefined || targets[ratio])
      .map(([ratio, measured]) => line(ratio, measured, measured === undefined ? '' : measured.toFixed(2))),
  ];
}

function targetText(target: Target | undefined): string {
  if (target?.atLeast !== undefined) return `>= ${number(target.atLeast)}`;
  if (target?.atMost !== undefined) return `<= ${number(target.atMost)}`;
  return '';
}

function verdict(measured: number | undefined, target: Target | undefined): Line['met'] {
  if (!target) return '';
  if (measured === undefined) return 'not compared';
  return measured >= (target.atLeast ?? -Infinity) && measured <= (target.atMost ?? Infinity) ? 'met' : 'missed';
}

/** Three digits, because such a measurement is not more precise. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
}
