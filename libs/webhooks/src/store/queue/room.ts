/** The free slots of this process. */
export interface Room {
  readonly total: number;
  ofListener(listenerId: string): number;
  /** The free slots for all listeners of an owner together. There is no limit for the application's own listeners. */
  ofOwner(owner: string | null): number;
  /** Listeners without free slots. The claim skips these listeners. */
  readonly full: readonly string[];
  /** Owners without free slots. The claim skips the listeners of these owners. */
  readonly fullOwners: readonly string[];
}

/** The room for inline deliveries, which do not wait for other deliveries. */
export const UNLIMITED_ROOM: Room = {
  total: Infinity,
  ofListener: () => Infinity,
  ofOwner: () => Infinity,
  full: [],
  fullOwners: [],
};

/** The room while sending is paused: nothing is leased. */
export const NO_ROOM: Room = { total: 0, ofListener: () => 0, ofOwner: () => 0, full: [], fullOwners: [] };

/** Counts the slots of a {@link Room} that are still free while deliveries take slots. A script that runs again creates a new object. */
export class RoomLeft {
  total: number;
  private readonly takenOf = new Map<string, number>();
  private readonly takenOfOwner = new Map<string | null, number>();

  constructor(private readonly room: Room) {
    this.total = room.total;
  }

  /** How many more deliveries this listener may get. */
  ofListener(listener: { readonly id: string; readonly owner: string | null }): number {
    const { id, owner } = listener;
    const ofListener = this.room.ofListener(id) - (this.takenOf.get(id) ?? 0);
    const ofOwner = this.room.ofOwner(owner) - (this.takenOfOwner.get(owner) ?? 0);
    return Math.max(0, Math.min(this.total, ofListener, ofOwner));
  }

  take({ id, owner }: { readonly id: string; readonly owner: string | null }, count = 1): void {
    this.total -= count;
    this.takenOf.set(id, (this.takenOf.get(id) ?? 0) + count);
    this.takenOfOwner.set(owner, (this.takenOfOwner.get(owner) ?? 0) + count);
  }
}

/** The share of one listener in the free slots. Before the division, `allowed` is the most that the listener may get. */
interface SlotShare {
  readonly target: { readonly id: string };
  readonly owner: string | null;
  allowed: number;
}

/** Divides the free slots, and sets `allowed` of each share to its slots. No listener gets a second slot before every listener has one slot. */
export function divideSlots(shares: readonly SlotShare[], left: RoomLeft): void {
  let waiting = shares.map((share) => ({
    share,
    of: { id: share.target.id, owner: share.owner },
    wanted: share.allowed,
  }));
  for (const { share } of waiting) share.allowed = 0;
  while (left.total > 0 && waiting.length) {
    const each = Math.max(1, Math.floor(left.total / waiting.length));
    for (const { share, of: target, wanted } of waiting) {
      const given = Math.min(each, wanted - share.allowed, left.ofListener(target));
      share.allowed += given;
      left.take(target, given);
    }
    waiting = waiting.filter(({ share, of: target, wanted }) => share.allowed < wanted && left.ofListener(target) > 0);
  }
}
