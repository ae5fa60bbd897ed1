// The word is misspelt on purpose. cspell:ignore ordre
/** Shell commands to try in this order. The endpoint `inbox` verifies webhooks with `secret`. */
export function urlsToTry(baseUrl: string, secret: string, deliveryId: string): string[] {
  const post = (path: string, body?: object) =>
    `curl -X POST ${baseUrl}${path}` +
    (body ? ` -H 'content-type: application/json' -d '${JSON.stringify(body)}'` : '');
  const inbox = `${baseUrl}/receiver/inbox`;
  return [
    '# a listener of customer 1, and two webhooks for it (printed here)',
    post('/customers/1/listeners', { events: ['order.*'], url: inbox, secret }),
    post('/orders', { customerId: 1, totalCents: 12_50 }),
    post('/orders/5/pay'),
    '# a card that is declined: nothing is sent',
    post('/orders/3/pay', { card: 'declined' }),
    '# the log, one delivery with its attempts, and a resend of the same webhook',
    `curl ${baseUrl}/customers/1/deliveries`,
    `curl ${baseUrl}/deliveries/${deliveryId}`,
    post(`/deliveries/${deliveryId}/resend`),
    '# metrics for Prometheus, and a health check',
    `curl ${baseUrl}/metrics`,
    `curl ${baseUrl}/health/ready`,
    '# a mistake, and its answer',
    post('/customers/1/listeners', { events: ['ordre.*'], url: inbox }),
  ];
}
