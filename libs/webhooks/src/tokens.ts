import { Inject, type InjectionToken } from '@nestjs/common';
import { DeliveryService } from './deliveries/delivery.service.js';
import { EventService } from './deliveries/event.service.js';
import { TaskService } from './deliveries/task.service.js';
import { DispatcherService } from './dispatcher/dispatcher.service.js';
import { WebhooksService } from './publishing/webhooks.service.js';
import { ListenerService } from './listeners/listener.service.js';
import { SystemService } from './system/system.service.js';
import { DEFAULT_INSTANCE } from './instance.js';

function tokenOf(service: abstract new (...args: never[]) => unknown, instance?: string): InjectionToken {
  return instance === undefined || instance === DEFAULT_INSTANCE ? service : `${service.name}:${instance}`;
}

/** The token of the `ListenerService` of an instance. For the default instance, the token is the class itself. */
export const getListenersToken = (instance?: string): InjectionToken => tokenOf(ListenerService, instance);
/** The token of the `DeliveryService` of an instance. For the default instance, the token is the class itself. */
export const getDeliveriesToken = (instance?: string): InjectionToken => tokenOf(DeliveryService, instance);
/** The token of the `EventService` of an instance. For the default instance this is the class itself. */
export const getEventsToken = (instance?: string): InjectionToken => tokenOf(EventService, instance);
/** The token of the `TaskService` of an instance. For the default instance, the token is the class itself. */
export const getTasksToken = (instance?: string): InjectionToken => tokenOf(TaskService, instance);
/** The token of the `DispatcherService` of an instance. For the default instance this is the class itself. */
export const getDispatcherToken = (instance?: string): InjectionToken => tokenOf(DispatcherService, instance);
/** The token of the `SystemService` of an instance. For the default instance this is the class itself. */
export const getSystemToken = (instance?: string): InjectionToken => tokenOf(SystemService, instance);
/** The token of the `WebhooksService` of an instance. For the default instance, the token is the class itself. */
export const getWebhooksToken = (instance?: string): InjectionToken => tokenOf(WebhooksService, instance);
/** The token of the `HttpService` of an instance. Use it to add interceptors. */
export const getWebhooksHttpToken = (instance: string = DEFAULT_INSTANCE): InjectionToken => `WebhooksHttp:${instance}`;

/** Injects the `ListenerService` of the instance that serves this data source. */
export const InjectListeners = (instance?: string) => Inject(getListenersToken(instance));
/** Injects the `DeliveryService` of the instance that serves this data source. */
export const InjectDeliveries = (instance?: string) => Inject(getDeliveriesToken(instance));
/** Injects the `EventService` of the instance that serves this data source. */
export const InjectEvents = (instance?: string) => Inject(getEventsToken(instance));
/** Injects the `TaskService` of the instance that serves this data source. */
export const InjectTasks = (instance?: string) => Inject(getTasksToken(instance));
/** Injects the `DispatcherService` of the instance that serves this data source. */
export const InjectDispatcher = (instance?: string) => Inject(getDispatcherToken(instance));
/** Injects the `SystemService` of the instance that serves this data source. */
export const InjectSystem = (instance?: string) => Inject(getSystemToken(instance));
/** Injects the `WebhooksService` of the instance that serves this data source. */
export const InjectWebhooks = (instance?: string) => Inject(getWebhooksToken(instance));
/**
 * Injects the `HttpService` that sends webhooks. Interceptors that you add to this `HttpService` run for webhooks. Interceptors of the
 * application's own `HttpService` do not run for webhooks.
 */
export const InjectWebhooksHttp = (instance?: string) => Inject(getWebhooksHttpToken(instance));
