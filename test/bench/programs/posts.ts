import { Pool } from 'undici';
import { BODY, SECRET, signed } from '../signed.js';
import { atATime, measure, type Measurement } from '../measure.js';

/**
 * Sends POSTs with a bare undici pool, without reading, storing or deciding anything. Other results are divided by
 * this limit.
 */
export async function post(url: string, count: number, concurrency: number): Promise<Measurement> {
  const { origin, pathname } = new URL(url);
  const pool = new Pool(origin, { connections: concurrency, pipelining: 1 });
  let next = 0;
  const postOne = async (): Promise<void> => {
    const id = `evt_${process.pid}_${next++}`;
    const headers = signed(id, BODY, SECRET);
    const { statusCode, body } = await pool.request({ path: pathname, method: 'POST', headers, body: BODY });
    await body.dump();
    if (statusCode !== 204) throw new Error(`the receiver answered ${statusCode}`);
  };
  const measurement = await measure(count, () => atATime(concurrency, count, postOne));
  await pool.destroy();
  return measurement;
}
