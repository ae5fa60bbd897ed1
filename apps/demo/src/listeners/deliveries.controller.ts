import { Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { DeliveryService } from 'nestjs-entity-webhooks';

/** What a customer may see: the deliveries to listeners of theirs. */
@Controller('customers/:owner/deliveries')
export class CustomerDeliveriesController {
  constructor(private readonly deliveries: DeliveryService) {}

  @Get()
  list(@Param('owner') owner: string) {
    return this.deliveries.forOwner(owner).list();
  }
}

/** The shop's own view, of everybody's deliveries: put a guard before it. */
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
