import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { cleanUpAfterEach, BOTH_WAYS, http, request, sockets } from './transport-setup.js';

cleanUpAfterEach();

/** A server that answers 200, then continues as the test defines. */
function answering(then: (response: ServerResponse) => void): Promise<string> {
  return http((incoming, response) => {
    incoming.resume();
    response.writeHead(200);
    response.flushHeaders();
    then(response);
  });
}

const endlessDrip = (response: ServerResponse): void => {
  const drip = setInterval(() => response.write('.'), 50);
  response.on('close', () => clearInterval(drip));
};

describe.each(BOTH_WAYS)('an answer whose body comes later, of a request %s', (_name, sender) => {
  it('is reported to onStatus before its body, which is read if onStatus wants it', async () => {
    let end = () => undefined as void;
    const url = await answering((response) => (end = () => void response.end('done')));
    const statuses: number[] = [];
    const ended = new Promise<void>((resolve) => {
      void sender()
        .send(
          request(url, {
            onStatus: (status) => {
              statuses.push(status);
              end();
              return resolve;
            },
          }),
        )
        .then((outcome) => expect(outcome).toMatchObject({ kind: 'accepted', response: 'done' }));
    });
    await ended;
    expect(statuses).toEqual([200]);
  });

  it('counts by its status alone when onStatus refuses the body, and its connection is closed', async () => {
    const url = await answering(endlessDrip);
    const outcome = await sender().send(request(url, { onStatus: () => null }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: 200 });
    await expect.poll(() => sockets.size).toBe(0);
  });

  it('has a separate time limit for its body, much shorter than the limit of the request', async () => {
    const url = await answering(endlessDrip);
    let hasEnded = false;
    const began = performance.now();
    const outcome = await sender().send(
      request(url, { timeoutMs: 60_000, onStatus: () => () => void (hasEnded = true) }),
    );
    expect(outcome).toMatchObject({ kind: 'accepted', status: 200, response: expect.stringMatching(/^\.+$/) });
    expect(performance.now() - began).toBeLessThan(10_000);
    await expect.poll(() => [hasEnded, sockets.size]).toEqual([true, 0]);
  });

  it('counts as read only when its connection is free or closed, even after all kept bytes have arrived', async () => {
    const url = await answering((response) => {
      response.write('x'.repeat(5_000));
      endlessDrip(response);
    });
    let hasEnded = false;
    const outcome = await sender().send(request(url, { onStatus: () => () => void (hasEnded = true) }));
    expect(outcome.response).toHaveLength(4_096);
    expect(hasEnded).toBe(false);
    await expect.poll(() => hasEnded, { timeout: 5_000 }).toBe(true);
  });

  it('is not reported to onStatus when the body arrives together with the headers', async () => {
    const url = await http((incoming, response) => {
      incoming.resume();
      incoming.on('end', () => response.end('at once'));
    });
    const onStatus = () => expect.unreachable('there is nothing to wait for');
    expect(await sender().send(request(url, { onStatus }))).toMatchObject({ kind: 'accepted', response: 'at once' });
  });
});
