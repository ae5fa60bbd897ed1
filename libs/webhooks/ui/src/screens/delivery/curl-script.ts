interface Sent {
  readonly url: string;
  readonly eventId: string;
  readonly body: string;
}

/** A text for a shell: everything between single quotes is taken as it is. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * A script that sends the same body, signed now (Standard Webhooks), because receivers refuse an old signature. The secret comes from the
 * environment: it never reaches this page.
 */
export function curlScript({ url, eventId, body }: Sent): string {
  return `# WEBHOOK_SECRET is the secret of the listener: whsec_…
BODY=${quoted(body)}
ID=${quoted(eventId)}
TIMESTAMP=$(date +%s)
KEY=$(printf '%s' "\${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \\n')
SIGNATURE=$(printf '%s' "$ID.$TIMESTAMP.$BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | base64)
curl -i ${quoted(url)} \\
  -H 'content-type: application/json' \\
  -H "webhook-id: $ID" \\
  -H "webhook-timestamp: $TIMESTAMP" \\
  -H "webhook-signature: v1,$SIGNATURE" \\
  --data-binary "$BODY"
`;
}
