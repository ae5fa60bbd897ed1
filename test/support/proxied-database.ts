import type { DataSourceOptions } from 'typeorm';
import { databases, type FreshDatabase, type TestDatabase } from './databases.js';
import { TcpProxy } from './tcp-proxy.js';

/** Databases that use a network connection. */
export const networked = databases.filter(({ name }) => name === 'postgres' || name === 'mariadb');

/** A database with a connection that a test can cut. */
export interface ProxiedDatabase extends FreshDatabase {
  readonly proxy: TcpProxy;
  /** Like {@link options}, but through the proxy. */
  readonly proxied: DataSourceOptions;
}

export async function createProxied(database: TestDatabase): Promise<ProxiedDatabase> {
  const fresh = await database.create();
  const { url, host, port } = fresh.options as { url?: string; host?: string; port?: number };
  const direct = new URL(url ?? `any://${host}:${port}`);
  const proxy = await TcpProxy.to({ host: direct.hostname, port: Number(direct.port || 5432) });
  direct.host = `127.0.0.1:${proxy.port}`;
  const proxied = { ...fresh.options, ...(url ? { url: direct.href } : { port: proxy.port, host: '127.0.0.1' }) };
  return {
    options: fresh.options,
    proxied: proxied as DataSourceOptions,
    proxy,
    async drop() {
      await proxy.close();
      await fresh.drop();
    },
  };
}
