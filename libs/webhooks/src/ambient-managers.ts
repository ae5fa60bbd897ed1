import type { ModulesContainer } from '@nestjs/core';
import type { DataSource, EntityManager } from 'typeorm';
import { dataSourceOf } from './typeorm-compat.js';

/** The used members of `TransactionHost` of `@nestjs-cls/transactional`. The package itself is never imported. */
interface TransactionHost {
  /** The client of the transaction. With the TypeORM adapter, the client is an `EntityManager`. */
  readonly tx: unknown;
  isTransactionActive(): boolean;
}

/** The places that {@link AmbientManagers} searches. */
export interface AmbientManagersParts {
  readonly dataSource: DataSource;
  /** The option `currentManager`. */
  readonly currentManager: (() => EntityManager | undefined) | undefined;
  /** Every provider of the application. */
  readonly modules: ModulesContainer;
}

/**
 * Finds the manager of the transaction that surrounds a call, in this order:
 *
 * 1. The return value of the option `currentManager`.
 * 2. The manager of a `TransactionHost` of `@nestjs-cls/transactional`, found among the providers of the application.
 * 3. `dataSource.manager`, which typeorm-transactional replaces by the manager of the transaction.
 */
export class AmbientManagers {
  private hosts: readonly TransactionHost[] | undefined;

  constructor(private readonly parts: AmbientManagersParts) {}

  /** Makes the next call search for hosts again. Call `reset()` when all providers are instantiated. */
  reset(): void {
    this.hosts = undefined;
  }

  /**
   * The manager of the transaction around this call. Outside a transaction, this is a manager that has no transaction.
   */
  get current(): EntityManager {
    const { dataSource, currentManager } = this.parts;
    return currentManager?.() ?? this.hostManager() ?? dataSource.manager;
  }

  private hostManager(): EntityManager | undefined {
    this.hosts ??= transactionHosts(this.parts.modules);
    for (const host of this.hosts) {
      if (!host.isTransactionActive()) continue;
      const manager = host.tx as EntityManager | undefined;
      // A host of another connection may use another database library.
      if (manager && dataSourceOf(manager) === this.parts.dataSource) return manager;
    }
    return undefined;
  }
}

function transactionHosts(modules: ModulesContainer): TransactionHost[] {
  const hosts = new Set<TransactionHost>();
  for (const { providers } of modules.values()) {
    for (const [token, { instance }] of providers) {
      // Check the token first: a provider may be a proxy that throws when a property is read.
      if (isHostToken(token) && isHost(instance)) hosts.add(instance);
    }
  }
  return [...hosts];
}

/** Whether a token has a form that `getTransactionHostToken()` returns. */
function isHostToken(token: unknown): boolean {
  if (typeof token === 'function') return token.name === 'TransactionHost';
  return typeof token === 'symbol' && token.description?.startsWith('TransactionHost_') === true;
}

function isHost(instance: unknown): instance is TransactionHost {
  return typeof instance === 'object' && instance !== null && 'tx' in instance && 'isTransactionActive' in instance;
}
