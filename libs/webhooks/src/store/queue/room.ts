/** How many deliveries this process has room for. */
export interface Room {
  readonly total: number;
  ofListener(listenerId: string): number;
  /** Of all listeners of an owner together; no limit for the application's own. */
  ofOwner(owner: string | null): number;
  /** Listeners that have none: not to be looked at. */
  readonly full: readonly string[];
  /** Owners of whom no listener has any. */
  readonly fullOwners: readonly string[];
}

/** Room for what somebody waits for: these deliveries are sent whatever else there is. */
export const UNLIMITED_ROOM: Room = {
  total: Infinity,
  ofListener: () => Infinity,
  ofOwner: () => Infinity,
  full: [],
  fullOwners: [],
};

/** What is left of a {@link Room} while deliveries are taken out of it. A script that runs again begins a new one. */
export class RoomLeft {
  total: number;
  private readonly takenOf = new Map<string, number>();
  private readonly takenOfOwner = new Map<string | null, number>();

  constructor(private readonly room: Room) {
    this.total = room.total;
  }

  /** How many more this listener may have. */
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
