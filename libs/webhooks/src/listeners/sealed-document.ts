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
}

/** As it stands in the row. @param shown what may be read without a key */
export function writeSealed(value: unknown, shown: unknown, { sealing, use, listenerId }: SealedPlace): string {
  const sealed = sealing.seal(JSON.stringify(value), use, listenerId);
  return JSON.stringify({ v: 1, shown, sealed } satisfies SealedDocument);
}

/** What may be shown of it; it needs no key. */
export function shownOf(stored: string): unknown {
  return (JSON.parse(stored) as SealedDocument).shown;
}

/** @throws UnreadableSecretError */
export function openSealed(stored: string, { sealing, use, listenerId }: SealedPlace): unknown {
  return JSON.parse(sealing.open((JSON.parse(stored) as SealedDocument).sealed, use, listenerId));
}

/** Sealed with the first key; as it was where it cannot be read. */
export function resealed(stored: string | null, place: SealedPlace): { text: string | null; isReadable: boolean } {
  if (stored === null) return { text: null, isReadable: true };
  try {
    // Also what is sealed by the first key already: that its id is the same says nothing of the key.
    openSealed(stored, place);
    const document = JSON.parse(stored) as SealedDocument;
    const sealed = place.sealing.reseal(document.sealed, place.use, place.listenerId);
    return { text: JSON.stringify({ ...document, sealed }), isReadable: true };
  } catch {
    return { text: stored, isReadable: false };
  }
}
