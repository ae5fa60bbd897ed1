import axios, { type InternalAxiosRequestConfig } from 'axios';
import { describe, expect, it } from 'vitest';

import { cleanUpAfterEach, BODY, cleanups, receiver, setup, request, intercept, tcp } from './transport-setup.js';

cleanUpAfterEach();

describe('axios that the application uses elsewhere', () => {
  it('does not affect a webhook: global interceptors, defaults and base URL', async () => {
    const to = await receiver();
    const elsewhere = await receiver();
    const before = { ...axios.defaults };
    let seen = 0;
    const id = axios.interceptors.request.use((config) => {
      seen++;
      config.headers.set('x-internal-token', 'global');
      return config;
    });
    axios.defaults.headers.common['x-internal-token'] = 'default';
    axios.defaults.headers.post['x-post'] = 'default';
    axios.defaults.baseURL = elsewhere.url;
    axios.defaults.auth = { username: 'u', password: 'p' };
    axios.defaults.params = { token: 'p' };
    cleanups.push(() => {
      axios.interceptors.request.eject(id);
      delete axios.defaults.headers.common['x-internal-token'];
      delete axios.defaults.headers.post['x-post'];
      for (const key of ['baseURL', 'auth', 'params'] as const) {
        if (key in before) axios.defaults[key] = before[key];
        else delete axios.defaults[key];
      }
    });
    const { transport, webhooks } = setup();
    await transport.send(request(to.url));
    intercept(webhooks);
    await transport.send(request(to.url));
    expect(to.requests).toHaveLength(2);
    for (const arrived of to.requests) {
      expect(arrived.url).toBe('/hooks');
      expect(Object.keys(arrived.headers).filter((name) => /^x-|authorization|accept/.test(name))).toEqual([]);
    }
    expect(elsewhere.requests).toEqual([]);
    expect(seen).toBe(0);
  });

  it('does not make a webhook use a proxy of the environment', async () => {
    const proxy = await receiver();
    const to = await receiver();
    const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'];
    for (const name of names) process.env[name] = process.env[name.toLowerCase()] = proxy.url;
    cleanups.push(() => {
      for (const name of names) {
        delete process.env[name];
        delete process.env[name.toLowerCase()];
      }
    });
    const { transport, webhooks } = setup();
    await transport.send(request(to.url));
    intercept(webhooks);
    await transport.send(request(to.url));
    expect([to.requests.length, proxy.requests.length]).toEqual([2, 0]);
  });
});

describe('interceptors on the HttpService of the module', () => {
  it('run, see the request, and may add headers', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    const seen: unknown[] = [];
    intercept(webhooks, (config) => {
      seen.push(config.url, Buffer.from(config.data as Buffer).toString());
      config.headers.set('x-gateway', 'signed');
    });
    webhooks.http.axiosRef.interceptors.response.use((response) => {
      seen.push(response.status, response.data, response.headers['x-from']);
      return response;
    });
    to.respond({ status: 202, body: 'thanks', headers: { 'x-from': 'receiver' } });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', response: 'thanks' });
    expect(seen).toEqual([to.url, BODY.toString(), 202, 'thanks', 'receiver']);
    expect(to.requests[0]?.headers['x-gateway']).toBe('signed');
  });

  it('are skipped after they are ejected', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    let ran = 0;
    const id = webhooks.http.axiosRef.interceptors.request.use((config) => {
      ran++;
      return config;
    });
    await transport.send(request(to.url));
    webhooks.http.axiosRef.interceptors.request.eject(id);
    await transport.send(request(to.url));
    expect([ran, to.requests.length]).toEqual([1, 2]);
  });

  it('may change the URL and its parameters, whose address is guarded', async () => {
    const to = await receiver();
    const gateway = await receiver();
    const security = { allowHttp: true, allowedAddresses: ['127.0.0.1/32'] };
    const { transport, webhooks } = setup(security);
    let url = gateway.url;
    intercept(webhooks, (config) => {
      config.url = url;
      config.params = { via: 'gateway' };
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted' });
    expect(gateway.requests[0]?.url).toBe('/hooks?via=gateway');
    for (url of ['http://127.0.0.2/', 'http://169.254.169.254/', 'http://[::1]/']) {
      expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
    }
    url = 'ftp://127.0.0.1/';
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'URL_REFUSED' });
    expect(to.requests).toEqual([]);
  });

  it.each<[string, (config: InternalAxiosRequestConfig) => void]>([
    ['replace the body', (config) => (config.data = '{}')],
    ['parse the body', (config) => (config.data = JSON.parse(String(config.data)))],
    ['write into the body', (config) => (config.data as Buffer).write('X')],
    ['drop the body', (config) => (config.data = undefined)],
    ['transform the body', (config) => (config.transformRequest = [() => 'changed'])],
  ])('may not %s', async (_name, change) => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, change);
    const outcome = await transport.send(request(to.url, { body: Buffer.from(BODY) }));
    expect(outcome).toMatchObject({ kind: 'blocked', status: null, errorCode: 'BODY_MISMATCH' });
    expect(to.requests).toEqual([]);
  });

  it('may pass the same bytes as another type', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, (config) => (config.data = String(config.data)));
    expect((await transport.send(request(to.url))).kind).toBe('accepted');
    expect(to.requests[0]?.rawBody.equals(BODY)).toBe(true);
  });

  it('may not send a request that they created', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    const axiosRef = webhooks.http.axiosRef;
    axiosRef.interceptors.request.use(({ url, method, data, headers }) => ({
      url,
      method,
      data: data as unknown,
      headers,
    }));
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'BODY_MISMATCH' });
    axiosRef.interceptors.request.clear();
    await expect(axiosRef.post(to.url, BODY)).rejects.toMatchObject({ code: 'BODY_MISMATCH' });
    expect(to.requests).toEqual([]);
  });

  it('that throw before the request give an unreachable outcome', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, () => {
      throw new Error('no token');
    });
    const outcome = await transport.send(request(to.url));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'INTERCEPTOR_FAILED' });
    expect(outcome.errorDetail).toContain('no token');
    expect(to.requests).toEqual([]);
  });

  it('may throw a long message, of which a part is kept that every database can store', async () => {
    const { transport, webhooks } = setup();
    intercept(webhooks, () => {
      throw new Error(`no\0 token ${'x'.repeat(1_000)}`);
    });
    const { errorDetail } = await transport.send(request('http://127.0.0.1:1/'));
    expect(errorDetail).toMatch(/^an interceptor threw: no\\u0000 token x+$/);
    expect(errorDetail).toHaveLength(500);
  });

  it.each([[undefined], [null], ['text'], [Object.create(null)], [{ message: 1 }]])(
    'may throw anything: %o',
    async (thrown) => {
      const to = await receiver();
      const { transport, webhooks } = setup();
      intercept(webhooks, () => {
        throw thrown;
      });
      expect(await transport.send(request(to.url))).toMatchObject({
        kind: 'unreachable',
        errorCode: 'INTERCEPTOR_FAILED',
      });
    },
  );

  it('that hang are cut off at the limit, and send nothing later', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    let go: () => void = () => undefined;
    webhooks.http.axiosRef.interceptors.request.use(async (config) => {
      await new Promise<void>((resolve) => (go = resolve));
      return config;
    });
    const late = new Promise<unknown>((resolve) =>
      webhooks.http.axiosRef.interceptors.response.use(undefined, (error) => {
        resolve(error);
        throw error;
      }),
    );
    const outcome = await transport.send(request(to.url, { timeoutMs: 50 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'INTERCEPTOR_FAILED' });
    go();
    await late;
    expect(to.requests).toEqual([]);
  });

  it('leave the rest of the time limit to the request', async () => {
    const url = await tcp((socket) => socket.resume());
    const { transport, webhooks } = setup();
    const TAKEN_MS = 200;
    webhooks.http.axiosRef.interceptors.request.use(async (config) => {
      const since = performance.now();
      await expect.poll(() => performance.now() - since).toBeGreaterThan(TAKEN_MS);
      return config;
    });
    const { errorCode, errorDetail } = await transport.send(request(url, { timeoutMs: 1_000 }));
    expect(errorCode).toBe('TIMEOUT');
    const [, limit] = /^no complete answer within (\d+) ms$/.exec(errorDetail ?? '') ?? [];
    expect(Number(limit)).toBeLessThanOrEqual(1_000 - TAKEN_MS);
  });

  it('that throw after the answer do not change the outcome', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    webhooks.http.axiosRef.interceptors.response.use((response) => {
      response.status = 500;
      throw new Error('cannot parse');
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', status: 204, errorCode: null });
  });

  it('that retry have their last answer recorded', async () => {
    const to = await receiver();
    to.failTimes(1);
    const { transport, webhooks } = setup();
    const axiosRef = webhooks.http.axiosRef;
    axiosRef.interceptors.response.use((response) =>
      response.status === 500 ? axiosRef.request(response.config) : response,
    );
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', status: 204 });
    expect(to.requests).toHaveLength(2);
  });

  it('cannot send with their config after the outcome is decided, although time is left', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    const { axiosRef } = webhooks.http;
    const given: InternalAxiosRequestConfig[] = [];
    axiosRef.interceptors.response.use((response) => {
      given.push(response.config);
      return response;
    });
    expect(await transport.send(request(to.url, { timeoutMs: 60_000 }))).toMatchObject({ kind: 'accepted' });
    await expect(axiosRef.request(given[0] as InternalAxiosRequestConfig)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(to.requests).toHaveLength(1);
  });

  it('may not set another adapter', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup({ allowHttp: true });
    let other = 0;
    intercept(webhooks, (config) => {
      config.adapter = (own) => {
        other++;
        return Promise.resolve({ status: 200, statusText: '', headers: {}, data: '', config: own });
      };
    });
    intercept(webhooks, (config) => {
      config.transitional = { legacyInterceptorReqResOrdering: false };
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
    expect(other).toBe(0);
  });

  it('may not set another adapter when they retry and run in the other order', async () => {
    const to = await receiver();
    to.failTimes(1);
    const { transport, webhooks } = setup();
    const { axiosRef } = webhooks.http;
    let other = 0;
    intercept(webhooks, (config) => {
      config.adapter = (own) => {
        other++;
        return Promise.resolve({ status: 200, statusText: '', headers: {}, data: '', config: own });
      };
    });
    axiosRef.interceptors.response.use((response) =>
      response.status === 500
        ? axiosRef.request({ ...response.config, transitional: { legacyInterceptorReqResOrdering: false } })
        : response,
    );
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', status: 204 });
    expect([other, to.requests.length]).toEqual([0, 2]);
  });

  it('see an unreachable receiver as an AxiosError with the code of this library', async () => {
    const { transport, webhooks } = setup({ allowHttp: true });
    let seen: unknown;
    webhooks.http.axiosRef.interceptors.response.use(undefined, (error: unknown) => {
      seen = error;
      throw error;
    });
    await transport.send(request('http://127.0.0.1:1/'));
    expect(seen).toBeInstanceOf(axios.AxiosError);
    expect(seen).toMatchObject({ code: 'ADDRESS_BLOCKED' });
  });

  it('cannot be replaced by defaults, which are frozen', () => {
    const { webhooks } = setup();
    expect(() => {
      webhooks.http.axiosRef.defaults.headers.common['x-a'] = '1';
    }).toThrow(TypeError);
    expect(() => {
      webhooks.http.axiosRef.defaults.maxRedirects = 5;
    }).toThrow(TypeError);
  });
});
