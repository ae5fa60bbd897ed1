import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/**
 * Makes a connection send a RST if this side closes it while a request has no answer.
 *
 * After an ordinary close, the kernel continues to repeat packets that were not acknowledged, for about 100 s on Linux. If the network
 * drops packets in this time and then works again, the receiver would get the request after all: after its repetition, and after later
 * changes of the same row. With a RST the kernel forgets these packets.
 *
 * @param tcp the connection that carries `socket`; the same object without TLS
 * @param isUnanswered whether a request was written, and no byte of its answer was read
 */
export function resetUnanswered(socket: Socket, tcp: Socket, isUnanswered: () => boolean): void {
  // Node.js resets plain TCP only. A proxy over TLS is closed as usual.
  if (tcp instanceof TLSSocket) return;
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error?: Error) => {
    if (!socket.destroyed && isUnanswered()) {
      // `resetAndDestroy()` calls `destroy()` without the error.
      socket.destroy = () => destroy(error);
      tcp.resetAndDestroy();
    }
    return destroy(error);
  };
}
