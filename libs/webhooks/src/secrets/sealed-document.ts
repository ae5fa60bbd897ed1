import type { SealedUse, Sealing } from './sealing.js';

/** How credentials stand in the row of a listener: what may be shown, and all of it sealed. */
interface SealedDocument {
  v: 1;
  shown: unknown;
  sealed: string;
}

/** What of a row belongs where: `use` and the listener are bound to what is sealed. */
export interface SealedPlace {
  readonly sealing: Sealing;
  readonly use: SealedUse;
  readonly listenerId: string;
  /** The URL of the listener: what is sealed opens for its origin alone. */
  readonly url: string;
}

/** As it stands in the row. @param shown what may be read without a key */
export function writeSealed(value: unknown, shown: unknown, { sealing, use, listenerId, url }: SealedPlace): string {
  const sealed = sealing.seal(JSON.stringify(value), use, listenerId, originOf(url));
  return JSON.stringify({ v: 1, shown, sealed } satisfies SealedDocument);
}

/** What may be shown of it; it needs no key. */
export function shownOf(stored: string): unknown {
  return (JSON.parse(stored) as SealedDocument).shown;
}

/** @throws UnreadableSecretError */
export function openSealed(stored: string, { sealing, use, listenerId, url }: SealedPlace): unknown {
  return JSON.parse(sealing.open((JSON.parse(stored) as SealedDocument).sealed, use, listenerId, originOf(url)));
}

/** Sealed with the first key; as it was where it cannot be read. */
export function resealed(stored: string | null, place: SealedPlace): { text: string | null; isReadable: boolean } {
  if (stored === null) return { text: null, isReadable: true };
  try {
    // Also what is sealed by the first key already: that its id is the same says nothing of the key.
    openSealed(stored, place);
    const document = JSON.parse(stored) as SealedDocument;
    const sealed = place.sealing.reseal(document.sealed, place.use, place.listenerId, originOf(place.url));
    return { text: JSON.stringify({ ...document, sealed }), isReadable: true };
  } catch {
    return { text: stored, isReadable: false };
  }
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : '';
}
