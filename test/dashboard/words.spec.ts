import { describe, expect, it } from 'vitest';
import { LOCALES } from '../../libs/webhooks/src/dashboard/dashboard-options.js';
import { en } from '../../libs/webhooks/ui/src/words/en.js';

const WORDS = '../../libs/webhooks/ui/src/words';

async function tableOf(name: string): Promise<Readonly<Record<string, string>>> {
  const { default: table } = (await import(`${WORDS}/${name}.ts`)) as { default: Readonly<Record<string, string>> };
  return table;
}

/** Values of a text, such as `{count}`. */
function valuesIn(text: string): string[] {
  return [...text.matchAll(/\{\w+\}/g)].map(([value]) => value).toSorted();
}

describe.each(LOCALES.filter((name) => name !== 'en'))('the words of %s', (name) => {
  it('have each key, and the same values in each text', async () => {
    const table = await tableOf(name);
    const wrong = Object.entries(en).filter(([key, text]) => {
      const own = table[key] ?? '';
      return own.trim() === '' || valuesIn(own).join() !== valuesIn(text).join();
    });
    expect(wrong).toEqual([]);
  });

  it('are another language: no sentence is the English one', async () => {
    const table = await tableOf(name);
    const sentences = Object.entries(en).filter(([, text]) => text.split(' ').length > 3);
    expect(sentences.length).toBeGreaterThan(100);
    expect(sentences.filter(([key, text]) => table[key] === text)).toEqual([]);
  });
});
