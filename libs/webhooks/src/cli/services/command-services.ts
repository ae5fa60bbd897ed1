import type { DeliveryService } from '../../deliveries/delivery.service.js';
import type { EventService } from '../../deliveries/event.service.js';
import type { TaskService } from '../../deliveries/task.service.js';
import type { ListenerService } from '../../listeners/listener.service.js';
import type { SystemService } from '../../system/system.service.js';

/** What commands need that work over a data source and over the API. */
export interface CommandServices {
  readonly listeners: Pick<
    ListenerService,
    'list' | 'get' | 'create' | 'enable' | 'disable' | 'rotateSecret' | 'sendTest'
  >;
  readonly deliveries: Pick<DeliveryService, 'list' | 'get' | 'resend'>;
  readonly events: Pick<EventService, 'list' | 'get'>;
  readonly tasks: Pick<TaskService, 'list' | 'get' | 'count' | 'create' | 'cancel' | 'run'>;
  readonly system: Pick<
    SystemService,
    'overview' | 'statistics' | 'statisticsOf' | 'sending' | 'pauseSending' | 'resumeSending'
  >;
  /** @throws ConfigurationError `SEALING_KEYS_MISSING` if the secret would be stored unsealed among sealed ones */
  readonly assertCanSeal: () => Promise<void>;
}
