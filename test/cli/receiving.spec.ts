// Names of shells. cspell:ignore COMPREPLY CWORD compdef tcsh
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { generateSigningKey, keySetOf } from 'nestjs-entity-webhooks';
import { StandardScheme, StripeScheme } from 'nestjs-entity-webhooks/receiver';
import { TestReceiver } from 'nestjs-entity-webhooks/testing';
import { createCommandLine, type CommandLine } from './command-line.js';

const SECRET = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
const OTHER = `whsec_${Buffer.alloc(32, 2).toString('base64')}`;
const BODY = '{"type":"order.updated","timestamp":"2026-11-30T12:00:00.000Z","data":{"id":1}}';
const ID = 'evt_019b0e6c-5a41-7c3e-9d27-5c1d6f0b8a11';
const HOUR = 3_600;

/** Headers of a signed request. @param key a secret or a private key */
function signed(body: string, { key = SECRET, age = 0 } = {}): Record<string, string> {
  const timestamp = Math.floor(Date.now() / 1_000) - age;
  const signature = new StandardScheme().sign({ id: ID, timestamp, body: Buffer.from(body), secrets: [key] });
  return { 'webhook-id': ID, 'webhook-timestamp': String(timestamp), ...signature };
}

const lines = (headers: Record<string, string>) =>
  ['POST /hooks HTTP/1.1', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)].join('\r\n');

let cli: CommandLine;
beforeAll(async () => {
  cli = await createCommandLine();
});
afterAll(() => cli.remove());

describe('verify', () => {
  async function verify(headers: Record<string, string>, body: string, ...args: string[]) {
    await cli.project.write('headers.txt', lines(headers));
    await cli.project.write('body.json', body);
    const { code, out, err } = await cli.run(['verify', '--headers', '@headers.txt', '--body', '@body.json', ...args]);
    return { code, said: out + err };
  }
  const secret = ['--secret', SECRET];
  const says = (code: number, text: string) => ({ code, said: expect.stringContaining(text) as string });

  it('accepts a genuine request', async () => {
    expect(await verify(signed(BODY), BODY, ...secret)).toEqual(says(0, `valid: ${ID}, signed at 20`));
    expect(await verify(signed(BODY), BODY, '--secret', OTHER, ...secret)).toEqual(says(0, 'valid: '));
  });

  it('names the change of the body that breaks the signature', async () => {
    const lineEnds = BODY.replaceAll(',', ',\n');
    const cases: [string, string, string][] = [
      [`${BODY}\n`, BODY, 'matches the body with a newline at its end'],
      [BODY, `${BODY}\n`, 'matches the body without the newline at its end'],
      [BODY, JSON.stringify(JSON.parse(BODY), null, 2), 'matches the body as compact JSON'],
      [JSON.stringify(JSON.parse(BODY), null, 4), BODY, 'matches the body as JSON with an indent of 4'],
      [lineEnds, lineEnds.replaceAll('\n', '\r\n'), 'matches the body with LF line ends instead of CRLF'],
      [lineEnds.replaceAll('\n', '\r\n'), lineEnds, 'matches the body with CRLF line ends instead of LF'],
      [BODY, `\ufeff${BODY}`, 'matches the body without the byte order mark at its start'],
    ];
    for (const [sent, received, text] of cases) {
      expect(await verify(signed(sent), received, ...secret)).toEqual(says(1, text));
    }
  });

  it('names a wrong secret, spaces around the secret, another scheme and a missing header', async () => {
    expect(await verify(signed(BODY, { key: OTHER }), BODY, ...secret)).toEqual(
      says(1, 'this is not the secret of the listener'),
    );
    const quoted = await verify(signed(BODY), BODY, '--scheme', 'stripe', '--secret', ` "${SECRET}"`);
    expect(quoted).toEqual(says(1, 'The header stripe-signature is missing.'));
    const stripe = new StripeScheme().sign({
      id: ID,
      timestamp: Math.floor(Date.now() / 1_000),
      body: Buffer.from(BODY),
      secrets: ['a word'],
    });
    expect(await verify(stripe, BODY, '--scheme', 'stripe', '--secret', ' a word')).toEqual(
      says(1, 'the secret without the spaces or quotes around it'),
    );
    const github = { 'x-hub-signature-256': `sha256=${createHmac('sha256', SECRET).update(BODY).digest('hex')}` };
    const both = { ...signed(BODY, { key: OTHER }), ...github };
    expect(await verify(both, BODY, ...secret)).toEqual(says(1, "The request is signed by the scheme 'github'."));
    expect(await verify({ 'webhook-id': ID }, BODY, ...secret)).toEqual(says(1, 'webhook-timestamp is missing'));
  });

  it('names an old timestamp, and accepts it at its time', async () => {
    const headers = signed(BODY, { age: HOUR });
    expect(await verify(headers, BODY, ...secret)).toEqual(
      says(1, 'The signature matches the body. The webhook was signed more than 300'),
    );
    expect(await verify(headers, BODY, ...secret, '--at', headers['webhook-timestamp'] as string)).toEqual(
      says(0, 'valid: '),
    );
    expect(await verify(headers, BODY, ...secret, '--tolerance', '7200')).toEqual(says(0, 'valid: '));
  });

  it('verifies with the keys of a key set', async () => {
    const { privateKey, publicKey } = generateSigningKey();
    await cli.project.write('keys.json', JSON.stringify(keySetOf([generateSigningKey().publicKey, publicKey])));
    const headers = signed(BODY, { key: privateKey });
    expect(await verify(headers, BODY, '--jwks', '@keys.json')).toEqual(says(0, 'valid: '));
    await cli.project.write('keys.json', '{"keys":[]}');
    expect(await verify(headers, BODY, '--jwks', '@keys.json')).toEqual(says(2, 'KEY_SET_UNREADABLE: '));
  });

  it('needs a secret, and files that exist', async () => {
    expect(await verify(signed(BODY), BODY)).toEqual(says(2, 'INVALID_ARGUMENT: Give --secret <secret> or --jwks'));
    expect(await verify(signed(BODY), BODY, '--secret', 'short')).toEqual(says(2, 'INVALID_SECRET: '));
    expect(await cli.run(['verify', '--headers', '@none', '--body', 'x', ...secret])).toMatchObject({ code: 2 });
    const asJson = await cli.run(
      ['verify', '--json', '--headers', JSON.stringify(signed(BODY)), '--body', '-', ...secret],
      {
        input: BODY,
      },
    );
    expect(JSON.parse(asJson.out)).toMatchObject({ isValid: true, code: 'VALID', id: ID });
    const byEnvironment = await cli.run(['verify', '--headers', '@headers.txt', '--body', BODY], {
      env: { WEBHOOKS_SECRET: SECRET },
    });
    expect(byEnvironment.code).toBe(0);
  });
});

describe('listen', () => {
  const stops: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  /** Starts the command. @returns its URL, and a function that waits for a line of its output */
  async function listen(...args: string[]) {
    const child = cli.start(['listen', '0', ...args]);
    let said = '';
    const waiting = new Set<() => void>();
    const add = (text: string) => {
      said += text;
      for (const look of waiting) look();
    };
    child.stdout?.setEncoding('utf8').on('data', add);
    child.stderr?.setEncoding('utf8').on('data', add);
    const closed = once(child, 'close');
    void closed.then(() => add('(closed)'));
    stops.push(async () => {
      child.kill();
      await closed;
    });
    const printed = (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(said);
          if (found) resolve(found[1] ?? found[0]);
          else if (said.includes('(closed)')) reject(new Error(`It did not print ${String(pattern)}, but: ${said}`));
        };
        waiting.add(look);
        look();
      });
    const url = await printed(/Listening on (\S+)\. Press/);
    return { url, printed, said: () => said };
  }
  const post = (url: string, body = BODY, headers: Record<string, string> = signed(BODY)) =>
    fetch(url, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });

  it('verifies and prints each request, and refuses a forged one', async () => {
    const { url, printed } = await listen('--secret', SECRET);
    expect((await post(url)).status).toBe(204);
    await printed(new RegExp(`\\d\\d:\\d\\d:\\d\\d order\\.updated ${ID} verified -> 204\n`));
    expect((await post(url, BODY, signed(BODY, { key: OTHER }))).status).toBe(400);
    await printed(/NOT VALID: The signature does not match .* -> 400\n/);
  });

  it('prints the full request, and answers with the given status, after a delay', async () => {
    const { url, printed } = await listen('--print', 'full', '--status', '503', '--delay', '50ms');
    const startedAt = performance.now();
    expect((await post(`${url}a?b=c`)).status).toBe(503);
    expect(performance.now() - startedAt).toBeGreaterThan(45);
    await printed(
      /^ {2}POST \/a\?b=c\n(?: {2}.*\n)* {2}webhook-id: evt_.*\n(?: {2}.*\n)*\n {2}\{"type":"order\.updated"/m,
    );
  });

  it('fails a share of the requests', async () => {
    const { url } = await listen('--fail', '100%');
    expect((await post(url)).status).toBe(500);
  });

  it('prints lines of JSON, of one type', async () => {
    const { url, printed } = await listen('--json', '--type', 'order.*');
    await post(url, '{"type":"user.created"}', {});
    await post(url);
    const line = await printed(/^(\{.*\})$/m);
    expect(JSON.parse(line)).toMatchObject({ type: 'order.updated', body: BODY, status: 204, diagnosis: null });
  });

  it('forwards the same bytes to the full URL, and answers what that server answers', async () => {
    const target = await new TestReceiver().start();
    stops.push(() => target.stop());
    target.respond({ status: 201, body: 'done' });
    const { url, printed } = await listen('--secret', SECRET, '--forward-to', `${target.url}?token=1&b=%20`);
    const answer = await post(url);
    expect({ status: answer.status, body: await answer.text() }).toEqual({ status: 201, body: 'done' });
    const [request] = await target.waitFor(1);
    expect(request).toMatchObject({ method: 'POST', url: '/hooks?token=1&b=%20' });
    expect(target.verify(request as never, SECRET).id).toBe(ID);
    await printed(/verified -> POST 127\.0\.0\.1:\d+\/hooks\?token=1&b=%20 201 \(\d+ ms\)\n/);
    // A forged request is not forwarded.
    await post(url, BODY, signed(BODY, { key: OTHER }));
    expect(target.requests).toHaveLength(1);
    await target.stop();
    expect((await post(url)).status).toBe(502);
    await printed(/failed: connect ECONNREFUSED/);
  });

  it('forwards to another machine only if that is allowed', async () => {
    const { code, err } = await cli.run(['listen', '0', '--forward-to', 'https://example.com/hooks']);
    expect({ code, err }).toEqual({
      code: 2,
      err: expect.stringMatching(
        /^INVALID_ARGUMENT: --forward-to example\.com is another machine\..*--allow-remote/,
      ) as string,
    });
    const { said } = await listen('--forward-to', 'https://example.com/hooks', '--allow-remote');
    expect(said()).toContain('Listening on http://127.0.0.1:');
  });

  it('answers both handshakes', async () => {
    const { url } = await listen('--secret', SECRET);
    const challenge = 'a'.repeat(32);
    const body = `{"type":"webhook.challenge","data":{"challenge":"${challenge}"}}`;
    const answer = await post(url, body, signed(body));
    expect({ status: answer.status, body: await answer.text() }).toEqual({ status: 200, body: challenge });
    const options = await fetch(url, {
      method: 'OPTIONS',
      headers: { 'webhook-request-origin': 'events.example.com' },
    });
    expect(options.headers.get('webhook-allowed-origin')).toBe('events.example.com');
  });

  it('says that the port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    stops.push(() => new Promise((resolve) => server.close(() => resolve())));
    const { port } = server.address() as AddressInfo;
    expect(await cli.run(['listen', String(port)])).toMatchObject({
      code: 2,
      err: expect.stringContaining('EADDRINUSE') as string,
    });
  });
});

describe('completion', () => {
  it('completes commands, subcommands and options in bash', async () => {
    const { out } = await cli.run(['completion', 'bash']);
    await cli.project.write('completion.bash', out);
    const completed = async (line: string) => {
      const words = line.split(' ');
      const array = words.map((word) => `'${word}'`).join(' ');
      const script = `. ./completion.bash; COMP_WORDS=(${array}); COMP_CWORD=${words.length - 1}; _nestjs_entity_webhooks; echo "\${COMPREPLY[@]}" > completed.txt`;
      await cli.project.shell(`bash -c '${script.replaceAll("'", String.raw`'\''`)}'`);
      const { readFile } = await import('node:fs/promises');
      return (await readFile(`${cli.project.folder}/completed.txt`, 'utf8')).trim().split(' ');
    };
    expect(await completed('nestjs-entity-webhooks re')).toEqual(['recover', 'replay']);
    expect(await completed('nestjs-entity-webhooks listeners ')).toEqual(
      expect.arrayContaining(['list', 'show', 'create', 'enable', 'disable', 'rotate', '--help']),
    );
    expect(await completed('nestjs-entity-webhooks listeners create --ow')).toEqual(['--owner']);
    expect(await completed('nestjs-entity-webhooks recover --state exhausted --dr')).toEqual(['--dry-run']);
  });

  it('prints scripts for zsh and fish, and no other', async () => {
    expect((await cli.run(['completion', 'zsh'])).out).toMatch(/^#compdef nestjs-entity-webhooks\n/);
    const fish = (await cli.run(['completion', 'fish'])).out;
    expect(fish).toMatch(/^complete -c nestjs-entity-webhooks -f -n '__fish_use_subcommand' -a status -d '.+'$/m);
    expect(fish).toContain("'__fish_seen_subcommand_from listeners; and __fish_seen_subcommand_from create' -l owner");
    expect(await cli.run(['completion', 'tcsh'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('bash, zsh, fish') as string,
    });
  });
});
