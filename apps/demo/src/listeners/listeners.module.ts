import { Module } from '@nestjs/common';
import { CustomerDeliveriesController, DeliveriesController } from './deliveries.controller.js';
import { ListenersController } from './listeners.controller.js';

/** HTTP endpoints for listeners and deliveries. The services come from `WebhooksModule`, which is global. */
@Module({ controllers: [ListenersController, CustomerDeliveriesController, DeliveriesController] })
export class ListenersModule {}
