import { LATEST } from '../events/payload-pins.js';
import { ENABLED_SCHEMA, LISTENER_SCHEMA, SECRET_SCHEMA } from '../listeners/listener-schema.js';
import { HANDSHAKES } from '../options/handshake-methods.js';
import { SKIPPED_REASONS } from '../deliveries/skipped-reason.js';
import { AUDIT_ACTIONS } from '../store/system/audit.js';
import { CAPABILITIES } from './access.js';
import type { Schema } from './schema.js';
import { withShards } from './schemas-of-shards.js';
import { SHOWN_SESSION_PAGE } from './session-page.js';

const text = (description: string, more: Schema = {}): Schema => ({ type: 'string', description, ...more });
const textOrNull = (description: string): Schema => text(description, { nullable: true });
const time = (description: string): Schema => text(description, { format: 'date-time' });
const timeOrNull = (description: string): Schema => text(description, { format: 'date-time', nullable: true });
const count = (description: string): Schema => ({ type: 'integer', description, minimum: 0 });
const countOrNull = (description: string): Schema => ({ ...count(description), nullable: true });
const anyObject = (description: string, more: Schema = {}): Schema => ({
  type: 'object',
  description,
  additionalProperties: true,
  ...more,
});
const headersOrNull = (description: string): Schema => ({
  type: 'object',
  description,
  additionalProperties: { type: 'string' },
  nullable: true,
});
const oneOf = (description: string, values: readonly string[]): Schema => text(description, { enum: values });
const list = (items: Schema, description: string): Schema => ({ type: 'array', items, description });

/** The schema of an object in an answer: every property is required. */
const shape = (description: string, properties: Readonly<Record<string, Schema>>): Schema => ({
  type: 'object',
  description,
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

const page = (name: string): Schema =>
  shape('One page, newest first.', {
    items: list(ref(name), 'May be fewer than the limit although there is a next page.'),
    next: textOrNull('Pass it as cursor to get the next page; null on the last page.'),
  });

const STEPS = ['1m', '5m', '1h', '1d'];
const STATES = ['active', 'pending', 'disabled'];
export const DELIVERY_STATES = ['due', 'leased', 'held', 'succeeded', 'exhausted', 'discarded'];

const { url, events, where, headers, schemes, format, ordering, sequence } = LISTENER_SCHEMA as unknown as Record<
  string,
  Schema
>;

const LISTENER: Readonly<Record<string, Schema>> = {
  id: text('lst_ and a UUIDv7.'),
  owner: textOrNull('null: a listener of the application, which receives events of every owner.'),
  url: url as Schema,
  events: events as Schema,
  where: where as Schema,
  name: textOrNull('A name for lists.'),
  externalId: textOrNull('The id of the listener in another system.'),
  metadata: anyObject('Data of the application.', { nullable: true }),
  description: textOrNull('A description for people.'),
  headers: headers as Schema,
  schemes: schemes as Schema,
  publicKeys: list(text('whpk_…'), 'The public keys that verify Ed25519 signatures, newest first.'),
  oldSecretUntil: timeOrNull('Until when the replaced secret signs, too; null: only the current one signs.'),
  oldSigningKeyUntil: timeOrNull('Until when the replaced Ed25519 key signs, too; null: only the current one signs.'),
  auth: anyObject('The credentials; *** stands for secret values.', { nullable: true }),
  tls: anyObject('Subjects and expiry of the certificates, never the key.', { nullable: true }),
  format: format as Schema,
  versions: {
    description: 'The pinned version of each type that has several versions, or the value latest.',
    oneOf: [
      { type: 'string', enum: [LATEST] },
      { type: 'object', additionalProperties: { type: 'integer', minimum: 1 } },
    ],
  },
  missingVersions: list(
    shape('A version.', { type: text('The event type.'), version: count('The pinned version.') }),
    'Pinned versions that the application does not offer. Deliveries of these types wait.',
  ),
  ordering: ordering as Schema,
  sequence: sequence as Schema,
  rateLimit: anyObject('The maximum number of requests in a period.', { nullable: true }),
  handshake: oneOf('How the receiver agrees before the first webhook.', HANDSHAKES),
  handshakeError: textOrNull('Why the last handshake failed.'),
  allowedRate: countOrNull('Requests a minute that the receiver allowed in its handshake.'),
  state: oneOf('Pending and disabled listeners get no requests. Their deliveries are held.', STATES),
  disabledReason: textOrNull('Why the listener was disabled.'),
  revision: count('Grows with each change. Also the ETag.'),
  failuresInARow: count('Failed attempts since the last successful one.'),
  failingSince: timeOrNull('When the first of these attempts failed.'),
  pausedUntil: timeOrNull('Nothing is sent before this time.'),
  nextAttemptAt: timeOrNull('When the next request may be sent.'),
  createdAt: time('When the listener was created.'),
  updatedAt: time('When the listener was changed.'),
};

const HEALTH = shape('Whether requests of the listener succeed.', {
  circuit: oneOf('open: nothing is sent before pausedUntil. probing: the next request decides.', [
    'closed',
    'open',
    'probing',
  ]),
  failuresInARow: count('Failed attempts since the last successful one.'),
  failingSince: timeOrNull('When the first of these attempts failed.'),
  pausedUntil: timeOrNull('Nothing is sent before this time.'),
  lastErrorCode: textOrNull('Why the last attempt failed; null: it did not fail, or no recent delivery shows it.'),
  lastAcceptedAt: timeOrNull('When the receiver accepted a request last; null: not in the last 90 days.'),
  waiting: count('Pending deliveries, counted up to 1,000.'),
});

const PHASES = shape('How long each step took; null: no details are kept.', {
  connection: oneOf('none: no connection was open when the attempt ended.', ['new', 'reused', 'none']),
  dnsMs: countOrNull('Name resolution.'),
  connectMs: countOrNull('Until the TCP connection or the tunnel was open.'),
  tlsMs: countOrNull('The TLS handshake.'),
  firstByteMs: countOrNull('From the beginning of the request to the status of the answer.'),
});

const DELIVERY: Readonly<Record<string, Schema>> = {
  id: text('dlv_ and a UUIDv7.'),
  eventId: text('The id of the event, sent as webhook-id.', { nullable: true }),
  listenerId: text('The listener.'),
  type: text('The event type.'),
  owner: textOrNull('The owner of the listener.'),
  state: oneOf('due: will be sent. held: the listener is disabled or pending.', DELIVERY_STATES),
  attemptCount: count('Requests so far.'),
  nextAttemptAt: timeOrNull('When the next request is sent.'),
  lastStatus: countOrNull('HTTP status of the last attempt.'),
  lastErrorCode: textOrNull('Error code of the last attempt.'),
  lastDurationMs: countOrNull(
    'How long the last attempt took; null: no attempt has ended, or its duration is not shown.',
  ),
  totalDurationMs: countOrNull('The time from createdAt to finishedAt; null: the delivery has not finished.'),
  createdAt: time('When the delivery was created.'),
  finishedAt: timeOrNull('When the delivery succeeded, was exhausted or was discarded.'),
};

const EVENT_TYPE: Readonly<Record<string, Schema>> = {
  type: text('The name.', { example: 'order.updated' }),
  title: text('A short name for people.'),
  group: textOrNull('Types with the same group are listed together.'),
  description: textOrNull('What the events are about.'),
  deprecated: {
    type: 'object',
    description: 'That the type will end; null: it is not deprecated.',
    properties: {
      since: text('The first day of the deprecation.'),
      sunset: text('The last day on which the type is certain to be sent.'),
      use: text('The event type that replaces this one.'),
    },
    required: ['since'],
    additionalProperties: false,
    nullable: true,
  },
  visibility: oneOf('internal: only listeners without an owner receive these events.', ['public', 'internal']),
  version: count('The newest version of the payload.'),
  versions: list(count('A version.'), 'The versions that listeners may pin, the newest first.'),
  properties: list(text('A path.'), 'Properties that filters may name; empty: any.'),
};

const EVENT: Readonly<Record<string, Schema>> = {
  id: text('evt_ and a UUIDv7, sent as webhook-id.'),
  type: text('The event type.'),
  timestamp: time('When it happened.'),
  owner: textOrNull('The owner of the row.'),
  state: oneOf('delivered: each delivery is on record, also one that failed or has to wait.', [
    'pending',
    'in_flight',
    'delivered',
    'damaged',
  ]),
  test: { type: 'boolean', description: 'Whether it is the example of a test.' },
  erasedAt: timeOrNull('When the content was erased.'),
};

/** The schemas of the document, by name. */
export const COMPONENTS: Readonly<Record<string, Schema>> = withShards({
  Listener: shape('A listener, without secrets.', LISTENER),
  ListenerWithSecret: shape('A listener with its secret, which no other answer shows.', {
    ...LISTENER,
    // Missing in the answer to a repeated request if the secret was replaced in the meantime.
    secret: textOrNull('The secret that signs.'),
  }),
  ListenerDetails: shape('A listener with its health, without secrets.', { ...LISTENER, health: HEALTH }),
  ListenerPage: page('ListenerDetails'),
  Delivery: shape('One event for one listener.', DELIVERY),
  DeliveryPage: page('Delivery'),
  DeliveryDetails: shape('A delivery with its attempts.', {
    ...DELIVERY,
    context: anyObject('Who or what made the event. For operators.', { nullable: true }),
    attempts: list(ref('Attempt'), 'Oldest first.'),
  }),
  Attempt: shape('One HTTP request.', {
    number: count('1 for the first attempt.'),
    outcome: oneOf('How it ended.', ['accepted', 'rejected', 'unreachable', 'blocked']),
    status: countOrNull('HTTP status.'),
    errorCode: textOrNull('Why it failed.'),
    errorDetail: textOrNull('For operators.'),
    durationMs: countOrNull('How long it took.'),
    response: textOrNull('First 4 KB of the answer.'),
    superseded: { type: 'boolean', description: 'Whether its outcome came too late to count.' },
    startedAt: time('When it began.'),
    trigger: oneOf('Why it was made. probe: it decided whether an open circuit closes.', [
      ...['schedule', 'resend', 'recover', 'replay', 'test', 'probe'],
    ]),
    triggeredBy: textOrNull('Who asked for it. For operators.'),
    url: textOrNull('The URL of the listener at that time; null: no details are kept.'),
    requestHeaders: headersOrNull('The headers of the request; *** stands for secret values.'),
    responseHeaders: headersOrNull('The headers of the answer; *** stands for secret values.'),
    omittedHeaders: count('Headers without room: all headers together take at most 2 KB.'),
    phases: { ...PHASES, nullable: true },
  }),
  SkippedListener: shape('A listener that has no delivery of an event.', {
    listenerId: text('The listener.'),
    reason: oneOf(
      'Why. FILTER_NOT_MATCHED: failedOn says which conditions. CREATED_LATER: after the event.',
      SKIPPED_REASONS,
    ),
    failedOn: list(text('A condition.'), 'Conditions of the filter that do not hold, such as status.changedTo.'),
  }),
  SkippedListenerPage: page('SkippedListener'),
  EventSummary: shape('An event in a list.', EVENT),
  EventPage: page('EventSummary'),
  Event: shape('A stored event.', {
    ...EVENT,
    data: anyObject('The data; null for a damaged or erased event.', { nullable: true }),
    previous: anyObject('The old values of what changed.', { nullable: true }),
    droppedFields: list(text('A field.'), 'Fields that were too large to store.'),
    context: anyObject('Who or what made the event. For operators.', { nullable: true }),
    deliveries: shape(
      'The number of deliveries in each state.',
      Object.fromEntries(DELIVERY_STATES.map((state) => [state, count(`Deliveries that are ${state}.`)])),
    ),
  }),
  EventTypes: shape('The event types.', { items: list(ref('EventType'), 'In the order of their names.') }),
  EventType: shape('An event type.', EVENT_TYPE),
  EventTypeDetails: shape('An event type with its schema and examples.', {
    ...EVENT_TYPE,
    schema: anyObject('JSON Schema of the payload. Only keywords of both draft-07 and 2020-12.'),
    examples: list(anyObject('A payload.'), 'Of an older version, the list may be empty.'),
  }),
  Task: shape('Bulk work in the background.', {
    id: text('tsk_ and a UUIDv7.'),
    kind: oneOf('What it does.', ['recover', 'replay', 'discard', 'erase', 'reseal']),
    state: oneOf('queued: no process has begun.', ['queued', 'running', 'done', 'cancelled', 'failed']),
    filter: anyObject('What it is about, with the names of the request.'),
    ratePerSecond: countOrNull('At most so many a second.'),
    done: count('How many are done.'),
    estimate: countOrNull('How many there were at the start; null: more than were counted.'),
    position: timeOrNull('Everything before this time is done.'),
    owner: textOrNull('The owner who created it; null: an operator.'),
    actor: textOrNull('Who created it.'),
    error: {
      type: 'object',
      description: 'Why it failed.',
      properties: { code: text('Stable: branch on it.'), message: text('What is wrong.') },
      required: ['code', 'message'],
      additionalProperties: false,
      nullable: true,
    },
    createdAt: time('When it was created.'),
    startedAt: timeOrNull('When a process began.'),
    endedAt: timeOrNull('When it was done, cancelled or failed.'),
    updatedAt: time('When its state changed last, or a process finished a part of it.'),
  }),
  TaskPage: page('Task'),
  TaskCount: shape('What a task would do now.', {
    count: count('At most 10,000.'),
    capped: { type: 'boolean', description: 'Whether there may be more.' },
    oldest: timeOrNull('The time of the first.'),
    newest: timeOrNull('The time of the last.'),
  }),
  Test: shape('A test event was sent.', { deliveryId: text('Its delivery.') }),
  Me: shape('Who calls.', {
    kind: oneOf('An operator sees everything.', ['operator', 'owner']),
    owner: textOrNull('The owner.'),
    actor: textOrNull('Who it is.'),
    can: list(oneOf('A capability.', CAPABILITIES), 'What the caller may do.'),
    expiresAt: timeOrNull('When the session expires; null without a session.'),
    instance: text('The data source that is served.'),
    formats: list(text('A name.'), 'Payload formats that the caller may give to listeners.'),
    schemes: list(text('A name.'), 'Signature schemes that the caller may give to listeners.'),
    ...SHOWN_SESSION_PAGE,
  }),
  UrlVerdict: shape('Whether a listener may have a URL.', {
    url: textOrNull('The form in which it would be stored; null: it is not allowed.'),
    allowed: { type: 'boolean', description: 'Whether it is allowed.' },
    code: textOrNull('Why not. Stable: branch on it.'),
    detail: textOrNull('Why not.'),
  }),
  Sender: shape('What receivers may want to know about requests.', {
    addresses: list(text('A CIDR range.'), 'From where requests come; empty: not configured.'),
    userAgent: text('The User-Agent of requests.'),
    headers: list(text('A name in lower case.'), 'Headers of requests that are signed by the standard scheme.'),
    schedule: list(
      count('In ms.'),
      'Delays before the second attempt and the further ones. Each is up to a fifth longer, by chance.',
    ),
    timeoutMs: count('How long a receiver may take to answer.'),
    success: text('Statuses that count as accepted.'),
    gone: count('The status that disables a listener.'),
  }),
  Overview: shape('The work that waits. Each count ends at 10,000. For owners: their own.', {
    outboxLagMs: count('Age of the oldest event that is not routed yet; 0: none.'),
    queueLagMs: count('How long a listener waits that should have been served; 0: none.'),
    pending: count('Events that are not routed yet.'),
    due: count('Deliveries that may be sent now.'),
    retrying: count('Deliveries that are sent later.'),
    held: count('Deliveries whose listener is not active.'),
    exhausted24h: count('Deliveries of the last 24 hours whose attempts all failed.'),
    failing: list(ref('FailingListener'), 'At most five. The one that fails for the longest time comes first.'),
    disabled: count('Disabled listeners.'),
    paused: { type: 'boolean', description: 'Whether an operator has paused all sending.' },
    pause: {
      ...shape('The pause; null: sending is not paused. Owners see neither the reason nor who paused it.', {
        since: time('When it was paused.'),
        reason: textOrNull('Why it is paused.'),
        actor: textOrNull('Who paused it.'),
      }),
      nullable: true,
    },
    processes: list(ref('DispatcherProcess'), 'Processes whose dispatcher runs; empty for owners.'),
  }),
  FailingListener: shape('A listener whose last attempt failed.', {
    id: text('lst_ and a UUIDv7.'),
    url: text('Without its query.'),
    name: textOrNull('A name for lists.'),
    owner: textOrNull('The owner.'),
    state: oneOf('The state of the listener.', STATES),
    failuresInARow: count('Failed attempts since the last successful one.'),
    failingSince: timeOrNull('When the first of these attempts failed.'),
    pausedUntil: timeOrNull('Nothing is sent before this time.'),
    lastErrorCode: textOrNull('Why the last attempt failed.'),
  }),
  DispatcherProcess: shape('A process whose dispatcher runs.', {
    id: text('prc_ and a UUIDv7: a new one for each start.'),
    host: text('The name of its host.'),
    version: text('The version of nestjs-entity-webhooks.'),
    startedAt: time('When its dispatcher was started.'),
    seenAt: time('When it reported last: each 15 seconds. A process that died is listed for ten minutes.'),
    sending: count('Requests in flight at that time.'),
    concurrency: count('The most requests that it sends at once.'),
  }),
  Sending: shape('The switch that pauses all sending.', {
    paused: { type: 'boolean', description: 'Whether sending is paused.' },
    reason: textOrNull('Why it is paused.'),
    since: timeOrNull('When it was paused or resumed last; null: never.'),
    actor: textOrNull('Who did it.'),
  }),
  Statistics: shape('Attempts over time.', {
    step: oneOf(
      'The time of a point. Longer than asked for if no figures of this time are kept for so short a step.',
      STEPS,
    ),
    since: time('When the first point begins.'),
    until: time('When the last point ends.'),
    series: list(
      shape('Points in the order of time.', {
        key: text('all; by listener: the id of a listener, or other.'),
        points: list(
          list(
            {},
            'Begin in ms since 1970, accepted, rejected, unreachable, blocked, p50 in ms or null, p95 in ms or null.',
          ),
          'One for each step.',
        ),
      }),
      'One: all attempts. By listener: at most ten listeners, the busiest first, and the others together.',
    ),
    totals: shape('The sums of the whole time.', {
      accepted: count('Attempts that were accepted.'),
      rejected: count('Attempts that were answered with another status than 2xx.'),
      unreachable: count('Attempts without an answer.'),
      blocked: count('Attempts that were not sent.'),
      exhausted: count('Deliveries whose last attempt failed.'),
      p50: countOrNull('Half of the attempts ended within this time, in ms.'),
      p95: countOrNull('95 of 100 attempts ended within this time, in ms.'),
    }),
  }),
  AuditItem: shape('A change.', {
    at: time('When it was made.'),
    actor: textOrNull('Who made it; null: the application.'),
    action: oneOf('What was done.', AUDIT_ACTIONS),
    target: textOrNull('The id of what changed, or an owner.'),
    details: anyObject('More about it. Never a secret, a URL or a payload.', { nullable: true }),
  }),
  AuditPage: page('AuditItem'),
  Chores: shape('The periodic work.', {
    items: list(
      shape('A kind of work that one process does at a time.', {
        name: text('Its name.'),
        dueAt: time('When it is done next.'),
        isRunning: { type: 'boolean', description: 'Whether a process does it now.' },
      }),
      'In the order of their names.',
    ),
  }),
  Damaged: shape('Events and images of triggers that could not be read.', {
    items: list(
      shape('No event is sent for it.', {
        id: text('evt_…, or img_ and the number of an image.'),
        kind: oneOf('What it is.', ['event', 'image']),
        name: text('The event type, or the table of the image.'),
        reason: textOrNull('Why it could not be read.'),
        createdAt: time('When it was stored.'),
      }),
      'Newest first, at most 100 of each kind.',
    ),
    capped: { type: 'boolean', description: 'Whether there are more.' },
  }),
  Preview: shape('Which of the newest events a listener would receive.', {
    examined: count('Events that were looked at.'),
    matched: count('Those that match.'),
    since: timeOrNull('When the oldest of them happened.'),
    until: timeOrNull('When the newest of them happened.'),
    samples: list(
      shape('An event that was looked at.', {
        eventId: text('evt_ and a UUIDv7.'),
        type: text('The event type.'),
        timestamp: time('When it happened.'),
        matched: { type: 'boolean', description: 'Whether it matches.' },
        failedOn: list(text('Such as status.changedTo, or type.'), 'The conditions that did not hold.'),
      }),
      'At most ten that match and ten that do not, newest first.',
    ),
  }),
  Session: shape('A session.', {
    id: text('ses_ and a UUIDv7.'),
    token: text('whs_…: send it as Authorization: Bearer.'),
    expiresAt: time('When the session expires.'),
  }),
  Problem: {
    type: 'object',
    description: 'An error (RFC 9457).',
    properties: {
      type: text('about:blank'),
      title: text('The text of the status.'),
      status: count('The HTTP status.'),
      detail: text('What is wrong. Not with 500 and above.'),
      instance: text('The id of the request.'),
      code: text('Stable: branch on it.'),
      errors: list(
        {
          type: 'object',
          properties: {
            pointer: text('JSON Pointer of a value in the body.'),
            parameter: text('A parameter of the query, or a header.'),
            code: text('What is wrong with it.'),
            detail: text('What is allowed.'),
          },
          required: ['code', 'detail'],
          additionalProperties: false,
        },
        'The parts of the request that are wrong.',
      ),
    },
    required: ['type', 'title', 'status', 'instance', 'code'],
    additionalProperties: false,
  },
});

const REFERENCES: Readonly<Record<string, Schema>> = {
  externalId: textOrNull('The id of the listener in another system. For operators.'),
  metadata: anyObject('Data of the application. For operators.', { nullable: true }),
};

/** The bodies of requests that the service checks. */
export const CREATE_LISTENER: Schema = {
  type: 'object',
  properties: {
    ...(LISTENER_SCHEMA as unknown as Record<string, Schema>),
    secret: SECRET_SCHEMA as Schema,
    ...REFERENCES,
    owner: textOrNull('The owner of the listener. For operators.'),
    enabled: ENABLED_SCHEMA as Schema,
  },
  required: ['url'],
  additionalProperties: false,
};
export const UPDATE_LISTENER: Schema = {
  type: 'object',
  properties: { ...(LISTENER_SCHEMA as unknown as Record<string, Schema>), ...REFERENCES },
  additionalProperties: false,
};
