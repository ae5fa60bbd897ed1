import type { ApiAnswer, ApiCall, ApiParts, ApiRoute } from './route.js';

/** The part of a request that decides on its shard. */
export type Asked = Pick<ApiCall, 'principal' | 'id' | 'query' | 'body'>;

/** Runs a route on one instance. */
export type RunOn = (
  parts: ApiParts,
  changed?: {
    /** Instead of the query of the request. */
    readonly query?: ApiCall['query'];
    /** Instead of the `run` of the route. */
    readonly run?: ApiRoute['run'];
  },
) => Promise<ApiAnswer>;

/** The instances that one module serves: a single one, or all shards. */
export interface ServedInstances {
  /** For work that concerns no data. */
  readonly main: ApiParts;
  /** Runs a route on the instances that the request concerns. */
  answer(route: ApiRoute, asked: Asked, on: RunOn): Promise<ApiAnswer>;
  /** Ends the streams, because the HTTP server waits for open connections before it closes. */
  close(): Promise<void>;
}

/** A module that serves one data source. */
export class SingleInstance implements ServedInstances {
  constructor(readonly main: ApiParts) {}

  answer(_: ApiRoute, __: Asked, on: RunOn): Promise<ApiAnswer> {
    return on(this.main);
  }

  close(): Promise<void> {
    return this.main.streams.close();
  }
}
