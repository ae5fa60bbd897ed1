import { parseUrl } from '../parse-url.js';
import type { SealedUse, Sealing } from './sealing.js';

/** Credentials in the row of a listener. One part may be shown. The other part contains all credentials in sealed form. */
interface SealedDocument {
  v: 1;
  shown: unknown;
  sealed: string;
}

/** The place of a sealed value. A sealed value is bound to its use and its listener. */
export interface SealedPlace {
  readonly sealing: Sealing;
  readonly use: SealedUse;
  readonly listenerId: string;
  /** The URL of the listener. The sealed value opens only for the origin of this URL. */
  readonly url: string;
}

/** Returns the text to store in the row. @param shown the part that may be read without a key */
export function writeSealed(value: unknown, shown: unknown, { sealing, use, listenerId, url }: SealedPlace): string {
  const sealed = sealing.seal(JSON.stringify(value), use, listenerId, originOf(url));
  return JSON.stringify({ v: 1, shown, sealed } satisfies SealedDocument);
}

/** Returns the part that may be shown. No key is needed to read this part. */
export function shownOf(stored: string): unknown {
  return (JSON.parse(stored) as SealedDocument).shown;
}

/** @throws UnreadableSecretError */
export function openSealed(stored: string, { sealing, use, listenerId, url }: SealedPlace): unknown {
  return JSON.parse(sealing.open((JSON.parse(stored) as SealedDocument).sealed, use, listenerId, originOf(url)));
}

/** Seals the document again with the first key. Returns the document unchanged if the document cannot be read. */
export function resealed(stored: string | null, place: SealedPlace): { text: string | null; isReadable: boolean } {
  if (stored === null) return { text: null, isReadable: true };
  try {
    // Open the document even if it is sealed with the first key: an equal key id does not prove that the key is
    // the same.
    openSealed(stored, place);
    const document = JSON.parse(stored) as SealedDocument;
    const sealed = place.sealing.reseal(document.sealed, place.use, place.listenerId, originOf(place.url));
    return { text: JSON.stringify({ ...document, sealed }), isReadable: true };
  } catch {
    return { text: stored, isReadable: false };
  }
}

function originOf(url: string): string {
  return parseUrl(url)?.origin ?? '';
}
