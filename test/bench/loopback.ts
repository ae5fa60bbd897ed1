/** The one option that every scenario has to change, because its receivers run on this machine. */
export const LOOPBACK = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };
