/**
 * The versions that a listener has pinned, by event type. A type that is not named has version 1: a type begins with version 1, so a
 * listener that existed before its second version stays at the first. `'latest'`: the newest version of every type.
 */
export type VersionPins = 'latest' | Readonly<Record<string, number>>;
export const LATEST = 'latest';
/** The versions in the input of a listener. A type with `null` gets its newest version, as if its version had never been chosen. */
export type VersionPinsInput = typeof LATEST | Readonly<Record<string, number | null>>;

/** Reads the column of a listener. @param stored `null`: version 1 of every type, which needs no text */
export function readPins(stored: string | null): VersionPins {
  return stored === null ? {} : (JSON.parse(stored) as VersionPins);
}

/** The column of a listener. */
export function writePins(pins: VersionPins): string | null {
  if (pins === LATEST) return JSON.stringify(pins);
  const above = Object.entries(pins).filter(([, version]) => version > 1);
  return above.length === 0 ? null : JSON.stringify(Object.fromEntries(above));
}

/** The pinned version of a type; `Infinity` for the newest version. */
export function pinOf(pins: VersionPins, type: string): number {
  if (pins === LATEST) return Infinity;
  return (Object.hasOwn(pins, type) ? pins[type] : undefined) ?? 1;
}
