import { Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { DeliveryService } from 'nestjs-entity-webhooks';

/** Endpoints for customers, with the deliveries to the customer's own listeners. */
@Controller('customers/:owner/deliveries')
export class CustomerDeliveriesController {
  constructor(private readonly deliveries: DeliveryService) {}

  @Get()
  list(@Param('owner') owner: string) {
    return this.deliveries.forOwner(owner).list();
  }
}

/** Endpoints for the shop, with the deliveries of all customers. In your application, protect this controller with a guard. */
@Controller('deliveries')
export class DeliveriesController {
  constructor(private readonly deliveries: DeliveryService) {}

  @Get(':id')
  get(@Param('id') id: string) {
    return this.deliveries.get(id);
  }

  @Post(':id/resend')
  @HttpCode(202)
  resend(@Param('id') id: string) {
    return this.deliveries.resend(id);
  }
}
