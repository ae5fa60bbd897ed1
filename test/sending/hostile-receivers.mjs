// Hostile receivers, one server of each kind, in a separate process, so that only the sender's own cost is measured.
//
// It prints one line of JSON: the port of each kind.
import { createServer } from 'node:net';
import { gzipSync } from 'node:zlib';

const OK = 'HTTP/1.1 200 OK\r\n';
/** 64 MiB of zeros in 64 KiB. */
const BOMB = gzipSync(Buffer.alloc(64 * 1024 * 1024));

/** Writes as fast as the other side reads, until it stops. */
function flood(socket, chunk) {
  const write = () => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', write);
  write();
}

/** Writes a piece every few milliseconds, until the socket closes. */
function drip(socket, piece, everyMs = 20) {
  const timer = setInterval(() => socket.write(piece), everyMs);
  socket.on('close', () => clearInterval(timer));
}

/** Answers when the first bytes of the request have arrived. */
const answering = (answer) => (socket) => socket.once('data', () => answer(socket));
const saying = (text) => answering((socket) => socket.end(text));
const many = (text, bytes = 64 * 1024) => text.repeat(Math.ceil(bytes / text.length));
/** A TLS record of the type `handshake`. */
const record = (bytes) => Buffer.concat([Buffer.from([0x16, 3, 3, bytes.length >> 8, bytes.length & 255]), bytes]);

const KINDS = {
  'says nothing': (socket) => socket.resume(),
  'reads nothing': (socket) => socket.pause(),
  'closes at once': (socket) => socket.destroy(),
  'resets before it answers': answering((socket) => socket.resetAndDestroy()),

  'drips its status line': (socket) => {
    let place = 0;
    const line = OK.padEnd(10_000, 'x');
    const timer = setInterval(() => socket.write(line[place++] ?? 'x'), 20);
    socket.resume().on('close', () => clearInterval(timer));
  },
  'drips headers': answering((socket) => {
    socket.write(OK);
    drip(socket, 'x: y\r\n');
  }),
  'never ends a header': answering((socket) => {
    socket.write(`${OK}x: `);
    flood(socket, 'y'.repeat(64 * 1024));
  }),
  'never ends its headers': answering((socket) => {
    socket.write(OK);
    flood(socket, many('x: y\r\n'));
  }),
  'has 10,000 headers': saying(`${OK}${'x: y\r\n'.repeat(10_000)}\r\n`),
  'sends 103 without end': answering((socket) => flood(socket, many('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'))),
  'sends 102 without end, slowly': answering((socket) => drip(socket, 'HTTP/1.1 102 Processing\r\n\r\n', 10)),
  'sends 100 without end': answering((socket) => flood(socket, many('HTTP/1.1 100 Continue\r\n\r\n'))),
  'switches protocols': saying('HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n'),
  'resets inside its headers': answering((socket) => socket.write(`${OK}x: y`, () => socket.resetAndDestroy())),

  'is no HTTP': saying('SSH-2.0-OpenSSH_9.2\r\n'),
  'speaks HTTP/2': saying(Buffer.from([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100])),
  'speaks HTTP/0.9': saying('<html>hello</html>'),
  'has two lengths': saying(`${OK}content-length: 1\r\ncontent-length: 2\r\n\r\nab`),
  'has a length and chunks': saying(`${OK}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
  'has a negative length': saying(`${OK}content-length: -1\r\n\r\n`),
  'has a length beyond numbers': saying(`${OK}content-length: ${'9'.repeat(40)}\r\n\r\n`),
  'has a NUL in a header': saying(`${OK}x: a\0b\r\n\r\n`),
  'has a status of 0': saying('HTTP/1.1 000 Zero\r\n\r\n'),

  'drips its body': answering((socket) => {
    socket.write(`${OK}content-length: 100000\r\n\r\n`);
    drip(socket, '.');
  }),
  'never ends its body': answering((socket) => {
    socket.write(`${OK}\r\n`);
    flood(socket, Buffer.alloc(64 * 1024, 'x'));
  }),
  'sends chunks of one byte without end': answering((socket) => {
    socket.write(`${OK}transfer-encoding: chunked\r\n\r\n`);
    flood(socket, many('1\r\nx\r\n'));
  }),
  'never ends the extension of a chunk': answering((socket) => {
    socket.write(`${OK}transfer-encoding: chunked\r\n\r\n1;x=`);
    flood(socket, 'y'.repeat(64 * 1024));
  }),
  'never ends its trailers': answering((socket) => {
    socket.write(`${OK}transfer-encoding: chunked\r\n\r\n0\r\n`);
    flood(socket, many('x: y\r\n'));
  }),
  'resets inside its body': answering((socket) =>
    socket.write(`${OK}content-length: 1000000\r\n\r\npart`, () => setTimeout(() => socket.resetAndDestroy(), 50)),
  ),
  'sends a decompression bomb': answering((socket) => {
    socket.write(`${OK}content-encoding: gzip\r\ncontent-length: ${BOMB.length}\r\n\r\n`);
    socket.end(BOMB);
  }),

  'accepts and starts no TLS': (socket) => socket.resume(),
  'drips a TLS record': answering((socket) => {
    socket.write(Buffer.from([0x16, 3, 3, 0x3f, 0xff]));
    drip(socket, Buffer.from([2]));
  }),
  'floods TLS with records of nothing': answering((socket) =>
    flood(socket, Buffer.concat(Array(4_096).fill(record(Buffer.alloc(0))))),
  ),
  'floods TLS with noise': answering((socket) => flood(socket, record(Buffer.alloc(16_000, 2)))),
  'answers TLS with HTTP': saying('HTTP/1.1 400 Bad Request\r\n\r\n'),
  'resets inside TLS': answering((socket) => socket.resetAndDestroy()),
};

/** Sends two answers to each request. The second must not become the answer to the next request. */
KINDS['answers twice'] = (socket) => {
  socket.on('data', (data) => {
    const asked = /x-number: (\d+)/.exec(String(data))?.[1];
    if (asked === undefined) return;
    const answer = (text) => `${OK}content-length: ${text.length}\r\n\r\n${text}`;
    socket.write(answer(`to ${asked}`) + answer('smuggled'));
  });
};

const ports = {};
for (const [kind, serve] of Object.entries(KINDS)) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  ports[kind] = server.address().port;
}
console.log(JSON.stringify(ports));
