import { isEmbedded, settings } from '../app/settings.js';

// The token stays in a variable: cookies and web storage do not work in frames of other sites, and scripts of the same origin could read them.
let token: string | undefined;
/** The page that gave the token. */
let parentOrigin: string | undefined;
const waiting = new Set<(token: string | undefined) => void>();

/** How long a request waits for the parent's answer. */
const PATIENCE_MS = 10_000;

interface Message {
  readonly type?: unknown;
  readonly token?: unknown;
  readonly next?: unknown;
}

/** Takes the token out of the URL, so that no copied link and no history entry contains it. */
export function readFragment(): void {
  const { hash, pathname, search } = window.location;
  if (!hash.startsWith('#t=')) return;
  const fragment = new URLSearchParams(hash.slice(1));
  token = fragment.get('t') ?? undefined;
  const next = fragment.get('next');
  window.history.replaceState(null, '', `${pathname}${search}#${next?.startsWith('/') ? next : '/'}`);
}

export function currentToken(): string | undefined {
  return token;
}

/** Listens to the page around this one. Pages that the application does not name are ignored. */
export function listenToParent(onToken: () => void): void {
  if (!isEmbedded) return;
  window.addEventListener('message', (event: MessageEvent<Message | null>) => {
    if (event.source !== window.parent || !isAllowed(event.origin)) return;
    const { type, token: given, next } = event.data ?? {};
    if (type !== 'webhooks:hello' && type !== 'webhooks:token') return;
    parentOrigin = event.origin;
    if (type === 'webhooks:hello') {
      if (typeof next === 'string' && next.startsWith('/')) window.location.replace(`#${next}`);
      tellParent({ type: 'webhooks:token-needed' });
    } else if (typeof given === 'string') {
      token = given;
      for (const resolve of waiting) resolve(given);
      waiting.clear();
      onToken();
    }
  });
}

function isAllowed(origin: string): boolean {
  return origin === window.location.origin || settings.parents.includes(origin);
}

/** Sends a message to the page around this one, if it may know. */
export function tellParent(message: Readonly<Record<string, unknown>>): void {
  if (parentOrigin !== undefined) window.parent.postMessage(message, parentOrigin);
}

/** A session may name the pages that may show it. Of the others this page takes nothing, also if the module allows them. */
export function mayStay({ parentOrigins }: { readonly parentOrigins: readonly string[] | null }): boolean {
  return !isEmbedded || parentOrigins === null || (parentOrigin !== undefined && parentOrigins.includes(parentOrigin));
}

/** Ends what this page knows of the session, and says nothing more to the page around it. */
export function forgetToken(): void {
  token = undefined;
  parentOrigin = undefined;
}

export function hasParent(): boolean {
  return parentOrigin !== undefined;
}

/** Asks the parent for a new token. @returns `undefined` if there is no parent, or no answer */
export function renewToken(): Promise<string | undefined> {
  if (!hasParent()) return Promise.resolve(undefined);
  tellParent({ type: 'webhooks:token-needed' });
  return new Promise((resolve) => {
    const finish = (given: string | undefined) => {
      clearTimeout(timer);
      waiting.delete(finish);
      resolve(given);
    };
    const timer = setTimeout(finish, PATIENCE_MS, undefined);
    waiting.add(finish);
  });
}
