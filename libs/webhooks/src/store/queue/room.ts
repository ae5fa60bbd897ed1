/** The free slots of this process. */
export interface Room {
  readonly total: number;
  ofListener(listenerId: string): number;
  /** For all listeners of an owner together; no limit for the application's own listeners. */
  ofOwner(owner: string | null): number;
  /** Listeners without free slots: the claim skips them. */
  readonly full: readonly string[];
  /** Owners without free slots: the claim skips their listeners. */
  readonly fullOwners: readonly string[];
}

/** For inline deliveries: they are sent regardless of other deliveries. */
export const UNLIMITED_ROOM: Room = {
  total: Infinity,
  ofListener: () => Infinity,
  ofOwner: () => Infinity,
  full: [],
  fullOwners: [],
};

/** The slots of a {@link Room} that are left while deliveries take slots. A script that runs again creates a new one. */
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
