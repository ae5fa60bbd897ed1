import type { FreshDatabase } from '../support/fresh-database.js';
import { Child, type Programs } from './child.js';
import type { DatabaseName, Servers } from './servers.js';

/** What a ratio should be. */
export interface Target {
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** What a scenario found on one database. */
export interface Result {
  /** That of the scenario, or of a variant of it. */
  readonly name: string;
  /** `null`: none is part of it. */
  readonly database: DatabaseName | null;
  readonly unit: string;
  readonly value: number;
  /** By name, such as `ratioToCeiling`; a name with a target, for which nothing stands to compare with, is `undefined`. */
  readonly ratios: Readonly<Record<string, number | undefined>>;
  /** Of ratios, and of `value`. */
  readonly targets?: Readonly<Record<string, Target>>;
  /** Sizes and other settings it ran with, among them every option of the library that is not the default. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Whatever else is worth reading. */
  readonly details?: Readonly<Record<string, number | string>>;
}

/** How much of everything: for CI; what runs in half an hour; what the targets were set for. */
export const SIZES = ['short', 'usual', 'full'] as const;
export type Size = (typeof SIZES)[number];

/** One thing that is measured. */
export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** Scenarios that it is compared with: they run before it, in the same run. */
  readonly comparedWith?: readonly string[];
  /** Where it runs; none: once, without a database. */
  readonly databases?: readonly DatabaseName[];
  readonly needsRedis?: boolean;
  run(bench: Bench): Promise<Result[]>;
}

/** What a scenario works with, on one database. Whatever it starts ends with it. */
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

  /** The database that this is about. */
  get database(): DatabaseName {
    if (!this.at) throw new Error('this scenario names no databases');
    return this.at;
  }

  /** @throws when the scenario does not say `needsRedis` */
  get redis(): string {
    if (this.servers.redisUrl === null) throw new Error('there is no Redis');
    return this.servers.redisUrl;
  }

  /** How many of something, by the size of the run and `--scale`. */
  count(counts: Readonly<Record<Size, number>>): number {
    return Math.max(1, Math.round(counts[this.size] * this.scale));
  }

  /** A fresh database of this scenario's kind, or another one. */
  async freshDatabase(name: DatabaseName = this.database): Promise<FreshDatabase['options']> {
    const create = this.servers.databases.get(name);
    if (!create) throw new Error(`there is no ${name}`);
    const fresh = await create();
    this.drops.push(fresh.drop);
    return fresh.options;
  }

  /** Starts a program in a process of its own. `isMeasured`: `--profile` is about it. */
  start<N extends keyof Programs>(program: N, isMeasured = false): Child<Programs[N]> {
    const child = Child.start(program, isMeasured ? this.profileFolder : null);
    this.children.push(child as Child<never>);
    return child;
  }

  /** What was measured before in this run, on the given database or on none. */
  valueOf(name: string, database: DatabaseName | null = null): number | undefined {
    return this.earlier.find((result) => result.name === name && result.database === database)?.value;
  }

  /** `value` by what another scenario came to in this run; `undefined` when that did not run. */
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

/** Thrown when a scenario ran and came to the wrong count. */
export class WrongCount extends Error {}

/** @throws WrongCount */
export function expectCount(what: string, actual: number, expected: number): void {
  if (actual !== expected) throw new WrongCount(`${what}: ${actual}, and not ${expected}`);
}
