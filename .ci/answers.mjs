// Exits 0 if a server answers at the URL and lets us in.
import { once } from 'node:events';
import { connect } from 'node:net';

import { createConnection } from 'mysql2/promise';
import pg from 'pg';

const url = process.argv[2] ?? '';
const { protocol, hostname, port } = new URL(url);
setTimeout(() => process.exit(1), 5000).unref();

if (protocol === 'postgres:') {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.end();
} else if (protocol === 'mysql:') {
  const connection = await createConnection(url);
  await connection.end();
} else if (protocol === 'redis:') {
  const socket = connect(Number(port || 6379), hostname);
  await once(socket, 'connect');
  socket.write('PING\r\n');
  const [answer] = await once(socket, 'data');
  socket.destroy();
  if (!String(answer).startsWith('+PONG')) throw new Error(`Redis says ${answer}`);
} else {
  throw new Error(`What is a server of ${url}?`);
}
