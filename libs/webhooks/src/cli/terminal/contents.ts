import { readFile } from 'node:fs/promises';
import { messageOf } from '../../foreign-text.js';
import { invalidValue } from '../../show.js';
import { argumentError } from './cli.js';

/**
 * The bytes of an option's value: the content of the file for `@file`, the standard input for `-`, otherwise the text itself.
 *
 * The standard input is read as a stream: after `readFileSync(0)` of a pipe, Node.js 20 may load an empty module.
 *
 * @param option its name, for errors
 * @throws ConfigurationError `INVALID_ARGUMENT`
 */
export async function contentOf(option: string, text: string): Promise<Buffer> {
  if (text === '-') return readAll(process.stdin);
  if (!text.startsWith('@')) return Buffer.from(text);
  try {
    return await readFile(text.slice(1));
  } catch (error) {
    throw argumentError(`The file of ${option} cannot be read: ${messageOf(error)}.`);
  }
}

async function readAll(stream: AsyncIterable<Buffer | string>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A JSON object, as text, `@file` or `-`. @throws ConfigurationError `INVALID_ARGUMENT` */
export async function jsonObject(option: string, text: string): Promise<Record<string, unknown>> {
  const content = (await contentOf(option, text)).toString('utf8');
  try {
    const value: unknown = JSON.parse(content);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // The error below names what is allowed.
  }
  throw argumentError(
    invalidValue(option, content, 'a JSON object such as {"id":1}, as text, @file, or - for the standard input'),
  );
}
