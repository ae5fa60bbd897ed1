import type { DeliveryService } from '../../deliveries/delivery.service.js';
import type { EventService } from '../../deliveries/event.service.js';
import type { TaskService } from '../../deliveries/task.service.js';
import type { ListenerService } from '../../listeners/listener.service.js';
import type { SystemService } from '../../system/system.service.js';

/** The services of commands that can work over a data source or over the API. */
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
  /** @throws ConfigurationError `SEALING_KEYS_MISSING` if the secret would be stored unsealed although other secrets are sealed */
  readonly assertCanSeal: () => Promise<void>;
}
