import { Logger } from '@nestjs/common';
import { vi } from 'vitest';

/** The log of the library, collected instead of printed. */
export interface Said {
  errors: string[];
  warnings: string[];
  news: string[];
}

/** Collects the output of every Nest logger until `vi.restoreAllMocks()`. */
export function listenToLog(): Said {
  const said: Said = { errors: [], warnings: [], news: [] };
  vi.spyOn(Logger.prototype, 'error').mockImplementation((text: unknown) => void said.errors.push(String(text)));
  vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void said.warnings.push(String(text)));
  vi.spyOn(Logger.prototype, 'log').mockImplementation((text: unknown) => void said.news.push(String(text)));
  return said;
}
