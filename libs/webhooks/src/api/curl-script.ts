/** A request that a script sends. */
interface Sent {
  readonly url: string;
  readonly eventId: string;
  readonly body: string;
  /** Without the headers of the signature. */
  readonly headers: Readonly<Record<string, string>>;
  /** The signature schemes of the listener. */
  readonly schemes: readonly string[];
}

/** A text for a shell: everything between single quotes is taken as it is. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * A script that sends the same body, signed now (Standard Webhooks), because receivers refuse an old signature. The secret comes from the
 * environment of the script. A script for a listener without the scheme `standard` says that its request has no signature.
 */
export function curlScript({ url, eventId, body, headers, schemes }: Sent): string {
  const isStandard = schemes.includes('standard');
  const signing = isStandard
    ? SIGNING
    : `# The request has no signature, because the listener is signed with: ${schemes.join(', ')}\n`;
  const given = Object.entries(headers).map(([name, value]) => quoted(`${name}: ${value}`));
  const own = [
    '"webhook-id: $ID"',
    '"webhook-timestamp: $TIMESTAMP"',
    ...(isStandard ? ['"webhook-signature: v1,$SIGNATURE"'] : []),
  ];
  return `BODY=${quoted(body)}
ID=${quoted(eventId)}
TIMESTAMP=$(date +%s)
${signing}curl -i ${quoted(url)} \\
${[...given, ...own].map((header) => `  -H ${header} \\`).join('\n')}
  --data-binary "$BODY"
`;
}

const SIGNING = `# WEBHOOK_SECRET is the secret of the listener: whsec_…
KEY=$(printf '%s' "\${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \\n')
SIGNATURE=$(printf '%s' "$ID.$TIMESTAMP.$BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | base64)
`;
