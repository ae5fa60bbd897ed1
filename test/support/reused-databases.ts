import type { DataSource, DataSourceOptions } from 'typeorm';

import { contentsOf, shapeOf } from './database-contents.js';
import type { FreshDatabase } from './fresh-database.js';

/**
 * A database that tests use one after the other. PostgreSQL and MariaDB create the tables of an application in ten times the time in which
 * they delete the rows of a test, and to drop a database PostgreSQL writes all its files to the disk.
 */
export class ReusedDatabase {
  /** The application whose tables are here and `shape` as it made them; `null` if there are none, or if they are not known. */
  private tables: { readonly of: string; readonly shape: string } | null = null;
  /** Since it was taken. */
  private readonly applications = new Set<string>();

  constructor(private readonly database: FreshDatabase) {}

  get options(): DataSourceOptions {
    return this.database.options;
  }

  get isEmpty(): boolean {
    return this.tables === null;
  }

  /** Whether the tables of this application are here. If not, its `synchronize` finds no tables of a test before. */
  async has(application: string): Promise<boolean> {
    const isFirst = this.applications.size === 0;
    this.applications.add(application);
    if (this.tables?.of === application) return true;
    if (isFirst && !this.isEmpty) await contentsOf(this.options).dropAll(this.options);
    this.tables = null;
    return false;
  }

  /** Remembers what `synchronize` made. Tables of several applications are not told apart, and so they are not kept. */
  async made(application: string, dataSource: DataSource): Promise<void> {
    if (this.tables !== null || this.applications.size > 1) return;
    this.tables = { of: application, shape: await shapeOf(this.options, (statement) => dataSource.query(statement)) };
  }

  /** Ends every connection. Deletes the rows, and the tables, too, if a test may have changed them. */
  async clear(): Promise<void> {
    this.applications.clear();
    if (this.tables && (await this.deleteRows(this.tables.shape))) return;
    this.tables = null;
    await contentsOf(this.options).dropAll(this.options);
  }

  /** @returns whether the tables are still as their application made them */
  private deleteRows(shape: string): Promise<boolean> {
    const { alone, deleteRows } = contentsOf(this.options);
    return alone(this.options, async (ask) => {
      if (shape !== (await shapeOf(this.options, ask))) return false;
      await deleteRows(ask);
      return true;
    });
  }

  drop(): Promise<void> {
    return this.database.drop();
  }
}

const taken = new Map<string, ReusedDatabase>();

/** The reused database that an application will open, if it is one. */
export function reusedDatabase(options: DataSourceOptions): ReusedDatabase | undefined {
  return taken.get(nameOf(options));
}

/** One kind of database. The run drops them all at its end. */
export class ReusedDatabases {
  private readonly free: ReusedDatabase[] = [];

  constructor(private readonly create: () => Promise<FreshDatabase>) {}

  /** @param isEmpty whether there must be no tables; otherwise those of the last test are welcome */
  async take({ isEmpty }: { isEmpty: boolean }): Promise<FreshDatabase> {
    const index = this.free.findLastIndex((one) => one.isEmpty || !isEmpty);
    const [database = new ReusedDatabase(await this.create())] = index < 0 ? [] : this.free.splice(index, 1);
    taken.set(nameOf(database.options), database);
    let isTaken = true;
    const drop = async () => {
      if (isTaken) await this.giveBack(database);
      isTaken = false;
    };
    return { options: database.options, drop };
  }

  private async giveBack(database: ReusedDatabase): Promise<void> {
    taken.delete(nameOf(database.options));
    try {
      await database.clear();
      this.free.push(database);
    } catch {
      // A test has left it in a state that only a new database ends, such as a prepared transaction.
      await database.drop();
    }
  }
}

/** Connections through a proxy have another host. */
function nameOf(options: DataSourceOptions): string {
  const { url, database } = options as { url?: string; database?: string };
  return url ? new URL(url).pathname.slice(1) : String(database);
}
