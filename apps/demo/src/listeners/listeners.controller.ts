import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import { CreateListenerDto, ListenerService } from 'nestjs-entity-webhooks';

/**
 * Endpoints for the listeners of one customer. `forOwner` separates customers: it does not find the listeners of other owners. In
 * your application, take the owner from the login, not from the URL.
 */
@Controller('customers/:owner/listeners')
export class ListenersController {
  constructor(private readonly listeners: ListenerService) {}

  @Get()
  list(@Param('owner') owner: string) {
    return this.listeners.forOwner(owner).list();
  }

  /** The answer contains the secret. The secret is never shown again. */
  @Post()
  create(@Param('owner') owner: string, @Body() listener: CreateListenerDto) {
    return this.listeners.forOwner(owner).create(listener);
  }

  @Delete(':id')
  @HttpCode(204)
  remove(@Param('owner') owner: string, @Param('id') id: string) {
    return this.listeners.forOwner(owner).remove(id);
  }
}
