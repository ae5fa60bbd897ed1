import { Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { DeliveryService } from 'nestjs-entity-webhooks';

/** For customers: the deliveries to their own listeners. */
@Controller('customers/:owner/deliveries')
export class CustomerDeliveriesController {
  constructor(private readonly deliveries: DeliveryService) {}

  @Get()
  list(@Param('owner') owner: string) {
    return this.deliveries.forOwner(owner).list();
  }
}

/** For the shop: the deliveries of all customers. Protect it with a guard in your application. */
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
