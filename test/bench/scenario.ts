import type { FreshDatabase } from '../support/fresh-database.js';
import { Child, type Programs } from './child.js';
import type { DatabaseName, Servers } from './servers.js';

/** The target of a ratio. */
export interface Target {
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** The result of a scenario on one database. */
export interface Result {
  /** Name of the scenario, or of a variant of it. */
  readonly name: string;
  /** `null`: the scenario uses no database. */
  readonly database: DatabaseName | null;
  readonly unit: string;
  readonly value: number;
  /** By name, such as `ratioToCeiling`. A ratio with a target is `undefined` if there was no result to compare with. */
  readonly ratios: Readonly<Record<string, number | undefined>>;
  /** Targets of ratios, and of `value`. */
  readonly targets?: Readonly<Record<string, Target>>;
  /** Sizes and other settings of the run, including every option of the library that is not the default. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Other observations. */
  readonly details?: Readonly<Record<string, number | string>>;
}

/** Size of the run: for CI; for half an hour; for the targets. */
export const SIZES = ['short', 'usual', 'full'] as const;
export type Size = (typeof SIZES)[number];

/** One measurement. */
export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** Scenarios that the result is compared with; they run first, in the same run. */
  readonly comparedWith?: readonly string[];
  /** Databases that the scenario runs on; none: it runs once, without a database. */
  readonly databases?: readonly DatabaseName[];
  readonly needsRedis?: boolean;
  run(bench: Bench): Promise<Result[]>;
}

/** What a scenario can use, on one database. Everything that it starts ends with it. */
export class Bench {
  private readonly children: Child<never>[] = [];
  private readonly drops: (() => Promise<void>)[] = [];

  constructor(
    readonly servers: Servers,
    private readonly at: DatabaseName | null,
    readonly size: Size,
    private readonly scale: number,
    private readonly earlier: readonly Result[],
    private readonly profileFolder: string | null,
  ) {}

  /** The database of this run of the scenario. */
  get database(): DatabaseName {
    if (!this.at) throw new Error('This scenario has no databases');
    return this.at;
  }

  /** @throws when the scenario does not set `needsRedis` */
  get redis(): string {
    if (this.servers.redisUrl === null) throw new Error('No Redis: set REDIS_URL');
    return this.servers.redisUrl;
  }

  /** A number of operations, by the size of the run and `--scale`. */
  count(counts: Readonly<Record<Size, number>>): number {
    return Math.max(1, Math.round(counts[this.size] * this.scale));
  }

  /** A fresh database of this scenario's kind, or of another kind. */
  async freshDatabase(name: DatabaseName = this.database): Promise<FreshDatabase['options']> {
    const create = this.servers.databases.get(name);
    if (!create) throw new Error(`No server for ${name}`);
    const fresh = await create();
    this.drops.push(fresh.drop);
    return fresh.options;
  }

  /** Starts a program in a child process. `isMeasured`: `--profile` profiles this process. */
  start<N extends keyof Programs>(program: N, isMeasured = false): Child<Programs[N]> {
    const child = Child.start(program, isMeasured ? this.profileFolder : null);
    this.children.push(child as Child<never>);
    return child;
  }

  /** The earlier result of this run, on the given database or on none. */
  valueOf(name: string, database: DatabaseName | null = null): number | undefined {
    return this.earlier.find((result) => result.name === name && result.database === database)?.value;
  }

  /** `value` divided by the result of another scenario in this run; `undefined` if that scenario did not run. */
  ratio(value: number, name: string, database: DatabaseName | null = null): number | undefined {
    const other = this.valueOf(name, database);
    return other === undefined ? undefined : value / other;
  }

  /** Ends every process that was started, and then removes the databases. */
  async end(): Promise<void> {
    await Promise.all(this.children.splice(0).map((child) => child.stop()));
    for (const drop of this.drops.splice(0)) await drop();
  }
}

/** Thrown when a scenario ran but its counts are wrong. */
export class WrongCount extends Error {}

/** @throws WrongCount */
export function expectCount(what: string, actual: number, expected: number): void {
  if (actual !== expected) throw new WrongCount(`${what}: ${actual} instead of ${expected}`);
}
