import type { Page, Route } from 'playwright-core';
import { problem } from './problem.js';
import { go, settled, show } from './settled.js';

/** Answers of the API, except the one that says who the person is. */
const DATA = /\/v1\/(?!me$)/;

/** Opens a screen for which no answer of the API comes through. */
export async function showWith(page: Page, path: string, answer: (route: Route) => unknown): Promise<void> {
  await page.route(DATA, answer);
  await go(page, path);
}

/** Opens a screen in a state. The page must not know the data of the screen. */
type ShowState = (page: Page, path: string) => Promise<void>;

const withAnswer =
  (answer: (route: Route) => unknown): ShowState =>
  async (page, path) => {
    await showWith(page, path, answer);
    await settled(page);
  };

/** The states of every screen besides the usual one. */
export const FAULTS: Readonly<Record<string, ShowState>> = {
  error: withAnswer(problem(500, 'INTERNAL')),
  forbidden: withAnswer(problem(403, 'FORBIDDEN')),
  offline: withAnswer((route) => route.abort()),
  missing: withAnswer(problem(404, 'NOT_FOUND')),
  'session-over': async (page, path) => {
    await showWith(page, path, problem(401, 'UNAUTHENTICATED'));
    await page.getByRole('alert').first().waitFor();
  },
  loading: async (page, path) => {
    await showWith(page, path, () => undefined);
    // The grey lines appear after a moment.
    await page.waitForFunction(() => {
      const lines = [...document.querySelectorAll('.skeleton')];
      return document.querySelector('h1') !== null && lines.every((line) => Number(getComputedStyle(line).opacity) > 0);
    });
  },
};

/** Opens a screen in one of {@link FAULTS}, or as usual. */
export async function showIn(state: string, page: Page, path: string): Promise<void> {
  const fault = FAULTS[state];
  await (fault ? fault(page, path) : show(page, path));
}
