import { Inject, type InjectionToken } from '@nestjs/common';
import { DeliveryService } from './deliveries/delivery.service.js';
import { DispatcherService } from './dispatcher/dispatcher.service.js';
import { WebhooksService } from './publishing/webhooks.service.js';
import { ListenerService } from './listeners/listener.service.js';
import { DEFAULT_INSTANCE } from './instance.js';

function tokenOf(service: abstract new (...args: never[]) => unknown, instance?: string): InjectionToken {
  return instance === undefined || instance === DEFAULT_INSTANCE ? service : `${service.name}:${instance}`;
}

/** The token of an instance's `ListenerService`; the class itself for the default one. */
export const getListenersToken = (instance?: string): InjectionToken => tokenOf(ListenerService, instance);
/** The token of an instance's `DeliveryService`; the class itself for the default one. */
export const getDeliveriesToken = (instance?: string): InjectionToken => tokenOf(DeliveryService, instance);
/** The token of an instance's `DispatcherService`; the class itself for the default one. */
export const getDispatcherToken = (instance?: string): InjectionToken => tokenOf(DispatcherService, instance);
/** The token of an instance's `WebhooksService`; the class itself for the default one. */
export const getWebhooksToken = (instance?: string): InjectionToken => tokenOf(WebhooksService, instance);
/** The token of an instance's own `HttpService`, for interceptors. */
export const getWebhooksHttpToken = (instance: string = DEFAULT_INSTANCE): InjectionToken => `WebhooksHttp:${instance}`;

/** Injects the `ListenerService` of the instance that serves this data source. */
export const InjectListeners = (instance?: string) => Inject(getListenersToken(instance));
/** Injects the `DeliveryService` of the instance that serves this data source. */
export const InjectDeliveries = (instance?: string) => Inject(getDeliveriesToken(instance));
/** Injects the `DispatcherService` of the instance that serves this data source. */
export const InjectDispatcher = (instance?: string) => Inject(getDispatcherToken(instance));
/** Injects the `WebhooksService` of the instance that serves this data source. */
export const InjectWebhooks = (instance?: string) => Inject(getWebhooksToken(instance));
/**
 * Injects the `HttpService` that webhooks are sent with. It is the module's own: interceptors of the application's are not
 * seen by receivers, and those added here are.
 */
export const InjectWebhooksHttp = (instance?: string) => Inject(getWebhooksHttpToken(instance));
