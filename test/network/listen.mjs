// Listens inside the network namespace in which it is started, and hands the listening sockets to its parent: a socket stays in the
// namespace in which it was made. Arguments: the addresses. Each message to the parent is the index of an address, with its server.
import { createServer } from 'node:net';

process.argv.slice(2).forEach((address, index) => {
  const server = createServer().listen(0, address, () => process.send(index, server));
});
process.on('message', () => process.exit());
