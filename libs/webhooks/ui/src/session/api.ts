import { createWebhooksClient, WebhooksApiError, type WebhooksClient } from 'nestjs-entity-webhooks/client';
import { noteMissing, onChosenShard } from './shards.js';
import { currentToken, renewToken } from './token.js';

/** The API is next to the page. A proxy may serve both under another path. */
const API_URL = new URL('v1', document.baseURI.replace(/[?#].*$/, '')).href;

const listeners = new Set<() => void>();

/** Calls back when the API says that the session is over. @returns a function that ends it */
export function onSessionOver(notify: () => void): () => void {
  listeners.add(notify);
  return () => listeners.delete(notify);
}

async function fetchAnswer(url: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await fetchWithToken(onChosenShard(url), init);
  noteMissing(response);
  return response;
}

async function fetchWithToken(url: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const token = currentToken();
  if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
  const response = await fetch(url, { ...init, headers });
  if (response.status !== 401) return response;
  const renewed = await renewToken();
  if (renewed === undefined) {
    for (const notify of listeners) notify();
    return response;
  }
  headers.set('authorization', `Bearer ${renewed}`);
  return fetch(url, { ...init, headers });
}

export const api: WebhooksClient = createWebhooksClient({ url: API_URL, fetch: fetchAnswer });

/** Why a request failed, as far as the page acts on it. */
export type Failure = 'offline' | 'forbidden' | 'not-found' | 'session-over' | 'too-many' | 'other';

export function failureOf(error: unknown): Failure {
  if (!(error instanceof WebhooksApiError)) return 'offline';
  const byStatus: Readonly<Record<number, Failure>> = {
    401: 'session-over',
    403: 'forbidden',
    404: 'not-found',
    429: 'too-many',
  };
  return byStatus[error.status] ?? 'other';
}

/** A key under which a repeated request does nothing. */
export function newKey(): string {
  return crypto.randomUUID();
}
