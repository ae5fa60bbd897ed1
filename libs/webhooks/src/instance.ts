import type { InjectionToken } from '@nestjs/common';

/** The name of the instance that serves the default data source. */
export const DEFAULT_INSTANCE = 'default';

/** @internal */
export const runtimeToken = (instance: string): InjectionToken => `WebhooksRuntime:${instance}`;

/** @internal */
export const registryToken = (instance: string): InjectionToken => `WebhooksEntityRegistry:${instance}`;

/** @internal */
export const optionsToken = (instance: string): InjectionToken => `WebhooksOptions:${instance}`;
