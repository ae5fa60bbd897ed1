import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** The number of handled deliveries that are remembered, because a stream may send those of the last seconds again. */
const REMEMBERED = 500;

interface Stored {
  readonly lastId?: string;
  readonly eventId?: string;
  readonly secret?: string;
  readonly handled?: readonly string[];
}

/** The position at which `listen --from` stopped, in a file that only the user can read. */
export class PullState {
  private readonly handled: Set<string>;
  private writing: Promise<void> = Promise.resolve();

  private constructor(
    private readonly path: string,
    private stored: Stored,
  ) {
    this.handled = new Set(stored.handled);
  }

  /** @param names of the API and the listener: each pair has its own file */
  static async open(names: readonly string[], path = pathOf(names)): Promise<PullState> {
    try {
      return new PullState(path, JSON.parse(await readFile(path, 'utf8')) as Stored);
    } catch {
      // The file is missing or damaged: begin with new deliveries.
      return new PullState(path, {});
    }
  }

  /** The position in the stream. */
  get lastId(): string | undefined {
    return this.stored.lastId;
  }

  /** The last event that was handled. */
  get eventId(): string | undefined {
    return this.stored.eventId;
  }

  /** The secret that was made for this listener. */
  get secret(): string | undefined {
    return this.stored.secret;
  }

  keepSecret(secret: string): Promise<void> {
    return this.write({ ...this.stored, secret });
  }

  hasHandled(deliveryId: string): boolean {
    return this.handled.has(deliveryId);
  }

  keepHandled(deliveryId: string, eventId: string): Promise<void> {
    this.handled.add(deliveryId);
    if (this.handled.size > REMEMBERED) this.handled.delete(this.handled.values().next().value as string);
    return this.write({ ...this.stored, eventId, handled: [...this.handled] });
  }

  keepPosition(lastId: string): Promise<void> {
    return this.write({ ...this.stored, lastId });
  }

  /** Replaces the file atomically: if the process is killed, either the old or the new file remains. */
  private write(stored: Stored): Promise<void> {
    this.stored = stored;
    this.writing = this.writing.then(async () => {
      const part = `${this.path}.part`;
      await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
      await writeFile(part, JSON.stringify(this.stored), { mode: 0o600 });
      await rename(part, this.path);
    });
    return this.writing;
  }
}

/** The folder of the XDG Base Directory Specification for state. */
function pathOf(names: readonly string[]): string {
  const { XDG_STATE_HOME: given = '' } = process.env;
  const folder = given === '' ? join(homedir(), '.local', 'state') : given;
  const name = createHash('sha256').update(JSON.stringify(names)).digest('hex').slice(0, 24);
  return join(folder, 'nestjs-entity-webhooks', `listen-${name}.json`);
}
