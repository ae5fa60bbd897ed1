export { WebhooksModule } from './webhooks.module.js';
export { WebhooksWorkerModule } from './webhooks-worker.module.js';
export {
  WebhooksShardsModule,
  type WebhooksShardsAsyncOptions,
  type WebhooksShardsOptions,
} from './shards/webhooks-shards.module.js';
export { WebhooksShards, type ShardOf, type WebhooksShard } from './shards/webhooks-shards.js';
export type { WebhookFeature } from './entities/webhook-feature.js';
export {
  getDeliveriesToken,
  getDispatcherToken,
  getEventsToken,
  getListenersToken,
  getTasksToken,
  getSystemToken,
  getWebhooksHttpToken,
  getWebhooksToken,
  InjectDeliveries,
  InjectDispatcher,
  InjectEvents,
  InjectListeners,
  InjectTasks,
  InjectSystem,
  InjectWebhooks,
  InjectWebhooksHttp,
} from './tokens.js';
export type { DispatcherEngine } from './engine.js';
export type {
  DispatcherOptions,
  HandshakeOptions,
  PublishedType,
  CustomersOptions,
  LimitsOptions,
  LogOptions,
  RedisConnection,
  RetentionOptions,
  SealingKeyOptions,
  SecretsOptions,
  WebhooksInstanceOptions,
  WebhooksModuleAsyncOptions,
  WebhooksModuleOptions,
  WebhooksOptions,
  WebhooksPart,
  WebhooksParts,
} from './options/webhooks-options.js';

export type { ActionDescription, FieldDescription, TypeDescription, Visibility } from './entities/described-type.js';
export { CaptureError } from './entities/errors.js';
export { VersionError, type Downgrade, type OlderVersion, type PayloadVersions } from './entities/payload-versions.js';
export type { Deprecation } from './entities/wrong-description.js';
export type { VersionPins, VersionPinsInput } from './events/payload-pins.js';
export { ownerFromRow } from './entities/owner-from-row.js';
export {
  Webhook,
  WebhookHidden,
  type CaptureMode,
  type EntityAction,
  type EntityClass,
  type EntityProperty,
  type Ordering,
  type WebhookOptions,
} from './entities/webhook.decorator.js';

export { CloudEventsBinaryFormat, CloudEventsFormat } from './events/cloud-events-format.js';
export { ContextError, type WebhookContext } from './events/event-context.js';
export type { Json, JsonObject } from './json.js';
export { PayloadFormat } from './events/payload-format.js';
export { TransactionError } from './store/database/transaction-errors.js';
export { PublishError } from './publishing/publish-errors.js';
export { OPERATIONAL_EVENTS, type OperationalEventType } from './events/operational-event.js';
export { EVERY_OWNER, type EveryOwner, type WebhookEvent } from './events/webhook-event.js';
export { WebhooksService, type PublishOptions } from './publishing/webhooks.service.js';

export { SystemService } from './system/system.service.js';
export type { AuditFilter, AuditItem } from './system/audit-log.js';
export { AUDIT_ACTIONS, type AuditAction } from './store/system/audit.js';
export { DamagedNotFoundError } from './system/errors.js';
export type { Statistics, StatsBy, StatsOptions, StatsPoint, StatsStep } from './system/statistics.js';
export type { ListenerPreview, PreviewInput, PreviewSample } from './listeners/listener-preview.js';
export type {
  DamagedItem,
  DispatcherProcess,
  FailingListenerSummary,
  Sending,
  SendingPause,
  SystemChore,
  SystemOverview,
} from './system/system-overview.js';

export { WebhooksKeysModule, type WebhooksKeysOptions } from './keys/webhooks-keys.module.js';

export type { CircuitPolicy } from './health/circuit.js';
export { UnreadableSecretError } from './secrets/sealing.js';
export type { ListenerAuth, OAuth2ClientCredentials } from './listeners/credentials/listener-auth.js';
export type { ListenerCertificate, ListenerTls, ShownListenerTls } from './listeners/credentials/listener-tls.js';
export { HANDSHAKES, type Handshake } from './options/handshake-methods.js';
export type { RateLimit } from './health/rate-limit.js';
export { InvalidListenerError, ListenerNotFoundError } from './listener-errors.js';
export { CreateListenerDto, UpdateListenerDto } from './listeners/listener.dto.js';
export { ListenerService } from './listeners/listener.service.js';
export type { ErasedOwner } from './listeners/erase-owner.js';
export { QuotaError } from './quotas.js';
export type {
  CreateListenerInput,
  Listener,
  ListenerChangeOptions,
  ListenerFilter,
  ListenerHealth,
  ListenerInput,
  ListenerWithSecret,
  UpdateListenerInput,
  Where,
  WhereConditions,
} from './listeners/listener.js';

export { DeliveryService } from './deliveries/delivery.service.js';
export type {
  Attempt,
  BulkOptions,
  Delivery,
  DeliveryDetails,
  DeliveryFilter,
  DeliveryState,
  DiscardOptions,
  FailedState,
  PendingState,
  RecoverOptions,
  ReplayOptions,
  StatusClass,
  StreamedAttempt,
} from './deliveries/delivery.js';
export type { AttemptTrigger } from './attempt-trigger.js';
export {
  EventService,
  type EventFilter,
  type StoredEvent,
  type StoredEventState,
  type StoredEventSummary,
} from './deliveries/event.service.js';
export type { SkippedListener, SkippedListenerFilter } from './deliveries/skipped-listeners.js';
export type { SkippedReason } from './deliveries/skipped-reason.js';
export type { ArchiveSource, RestoreOptions, RestoreResult } from './deliveries/restore.js';
export { TaskService } from './deliveries/task.service.js';
export type { NewTask, Task, TaskCount, TaskFilter, TaskKind, TaskState } from './deliveries/task.js';
export {
  ContentErasedError,
  DeliveryNotFoundError,
  EventNotFoundError,
  ResendError,
  TaskNotFoundError,
} from './deliveries/errors.js';
export { WebhookArchive, type ArchiveFile } from './archive/webhook-archive.js';
export { RetrySchedule, StandardRetrySchedule } from './health/retry-schedule.js';

export {
  eventName,
  LIFECYCLE_EVENTS,
  type CircuitOpenedLifecycleEvent,
  type DeliveriesDiscardedLifecycleEvent,
  type DeliveryLifecycleEvent,
  type EventDamagedLifecycleEvent,
  type ImageDamagedLifecycleEvent,
  type ListenerDisabledLifecycleEvent,
  type LifecycleEvent,
} from './dispatcher/lifecycle-events.js';
export { DispatcherService, type RoundResult } from './dispatcher/dispatcher.service.js';
export type { UpkeepResult } from './dispatcher/upkeep.js';

export {
  generateSigningKey,
  keySetOf,
  publicKeyOf,
  type SigningKeyPair,
  type WebhookJwk,
  type WebhookKeySet,
} from './signing/ed25519-key.js';
export { GithubScheme } from './signing/github-scheme.js';
export { GoogleCodeScheme } from './signing/google-code-scheme.js';
export { generateSecret } from './signing/secret.js';
export {
  type KeyType,
  type ReceivedHeaders,
  SignatureScheme,
  type SigningInput,
  type VerifyInput,
} from './signing/signature-scheme.js';
export { StandardScheme, StandardV1aScheme } from './signing/standard-scheme.js';
export { StripeScheme } from './signing/stripe-scheme.js';

export type { EgressProxyOptions } from './sending/egress-proxy.js';
export type { TlsIdentity } from './sending/connection-options.js';
export type { AttemptExchange, Outcome, OutcomeKind } from './sending/outcome.js';
export type { AttemptPhases } from './sending/phases.js';
export type { SendErrorCode } from './sending/send-error.js';
export type { SecurityOptions } from './sending/security-options.js';
export { WebhookTransport, type OnStatus, type SignedRequest } from './sending/transport.js';

export { SqliteLockTimeoutError, SqliteTransactionLostError } from './sqlite/errors.js';
export { isolateSqlite, type IsolateSqliteOptions } from './sqlite/isolate-sqlite.js';
export type { SupportedDriver } from './dialect.js';
export type { WebhookPage, WebhookPageOptions } from './store/database/page.js';
export { webhookEntities } from './store/database/tables.js';
export type { WebhookTablesOptions } from './store/database/table-names.js';

export {
  WEBHOOKS_CHANNELS,
  type RecordedAttempt,
  type AttemptsMessage,
  type CapturedMessage,
  type DamagedMessage,
  type DisabledBy,
  type DiscardedMessage,
  type EventSource,
  type ListenerMessage,
  type RoutedMessage,
  type StepMessage,
  type TroubleMessage,
  type UpkeepMessage,
  type WebhooksInstance,
  type WebhooksMessages,
} from './diagnostics/channels.js';

export { WebhookClock, SystemWebhookClock, type ClockReading } from './clock.js';
export { WebhooksExceptionFilter } from './webhooks-exception.filter.js';
export { BadRequestError, ConfigurationError, WebhooksError, type WebhooksErrorOptions } from './errors.js';
