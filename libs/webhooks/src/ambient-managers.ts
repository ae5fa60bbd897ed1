import type { ModulesContainer } from '@nestjs/core';
import type { DataSource, EntityManager } from 'typeorm';
import { dataSourceOf } from './typeorm-compat.js';

/** The part of `TransactionHost` of `@nestjs-cls/transactional` that is used here. The package itself is never imported. */
interface TransactionHost {
  /** The client of the transaction; with its TypeORM adapter an `EntityManager`. */
  readonly tx: unknown;
  isTransactionActive(): boolean;
}

/** What is asked for the transaction that surrounds a call. */
export interface AmbientManagersParts {
  readonly dataSource: DataSource;
  /** The option of this name. */
  readonly currentManager: (() => EntityManager | undefined) | undefined;
  /** Every provider of the application. */
  readonly modules: ModulesContainer;
}

/**
 * Finds the manager of the transaction that surrounds a call:
 *
 * - what the option `currentManager` returns;
 * - `TransactionHost` of `@nestjs-cls/transactional`, found among the providers of the application;
 * - `dataSource.manager`, which typeorm-transactional replaces by that of the transaction.
 */
export class AmbientManagers {
  private hosts: readonly TransactionHost[] | undefined;

  constructor(private readonly parts: AmbientManagersParts) {}

  /** Looks for hosts again: all providers are there now. */
  reset(): void {
    this.hosts = undefined;
  }

  /** The manager; not always one of a transaction. */
  get current(): EntityManager {
    const { dataSource, currentManager } = this.parts;
    return currentManager?.() ?? this.ofHosts() ?? dataSource.manager;
  }

  private ofHosts(): EntityManager | undefined {
    this.hosts ??= transactionHosts(this.parts.modules);
    for (const host of this.hosts) {
      if (!host.isTransactionActive()) continue;
      const manager = host.tx as EntityManager | undefined;
      // Hosts of other connections may be of other libraries.
      if (manager && dataSourceOf(manager) === this.parts.dataSource) return manager;
    }
    return undefined;
  }
}

function transactionHosts(modules: ModulesContainer): TransactionHost[] {
  const hosts = new Set<TransactionHost>();
  for (const { providers } of modules.values()) {
    for (const [token, { instance }] of providers) {
      // The token alone: a provider may be a proxy that throws when any other property is read.
      if (isHostToken(token) && isHost(instance)) hosts.add(instance);
    }
  }
  return [...hosts];
}

/** As `getTransactionHostToken()` makes them. */
function isHostToken(token: unknown): boolean {
  if (typeof token === 'function') return token.name === 'TransactionHost';
  return typeof token === 'symbol' && token.description?.startsWith('TransactionHost_') === true;
}

function isHost(instance: unknown): instance is TransactionHost {
  return typeof instance === 'object' && instance !== null && 'tx' in instance && 'isTransactionActive' in instance;
}
