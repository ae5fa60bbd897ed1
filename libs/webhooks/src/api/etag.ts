import { hash } from 'node:crypto';
import { headerOf, type HttpRequest } from './read-request.js';

/** A strong validator (RFC 9110, 8.8.3): the same text has the same tag in every process. */
export function etagOf(text: string): string {
  return `"${hash('sha256', text, 'base64url').slice(0, 27)}"`;
}

/**
 * Whether `If-None-Match` contains the tag, so that the caller already has the text. Weak tags count (RFC 9110, 13.1.2), because a proxy
 * that compresses an answer makes its tag weak.
 */
export function isKnown(request: HttpRequest, etag: string): boolean {
  const given = headerOf(request, 'if-none-match') ?? '';
  return given.trim() === '*' || given.split(',').some((one) => one.trim().replace(/^W\//, '') === etag);
}
