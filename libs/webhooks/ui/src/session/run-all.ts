import { WebhooksApiError } from 'nestjs-entity-webhooks/client';

const AT_ONCE = 4;
/** The API allows so many changes a minute, and then says 429. */
const PAUSE_MS = 5000;
const MAX_PAUSES = 24;

export interface Unchanged<Item> {
  readonly item: Item;
  readonly error: unknown;
}

interface Outcome<Item, Answer> {
  readonly answers: readonly Answer[];
  readonly unchanged: readonly Unchanged<Item>[];
}

/**
 * Changes things one by one, a few at a time. A failure stops none of the others.
 *
 * @param onProgress called with how many are done, after each
 */
export async function runAll<Item, Answer>(
  items: readonly Item[],
  change: (item: Item) => () => Promise<Answer>,
  onProgress: (done: number) => void,
): Promise<Outcome<Item, Answer>> {
  const waiting = [...items];
  const unchanged: Unchanged<Item>[] = [];
  const answers: Answer[] = [];
  const work = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try {
        answers.push(await patiently(change(item)));
      } catch (error) {
        unchanged.push({ item, error });
      }
      onProgress(answers.length + unchanged.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { answers, unchanged };
}

async function patiently<Answer>(change: () => Promise<Answer>): Promise<Answer> {
  for (let pauses = 0; ; pauses++) {
    try {
      return await change();
    } catch (error) {
      if (!(error instanceof WebhooksApiError) || error.status !== 429 || pauses === MAX_PAUSES) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
