/** The one thing that every scenario has to change: its receivers stand on this machine. */
export const LOOPBACK = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };
