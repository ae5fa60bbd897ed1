import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import { CreateListenerDto, ListenerService } from 'nestjs-entity-webhooks';

/** `forOwner` separates customers: the listeners of other owners are not found. Take the owner from the login, not from the URL. */
@Controller('customers/:owner/listeners')
export class ListenersController {
  constructor(private readonly listeners: ListenerService) {}

  @Get()
  list(@Param('owner') owner: string) {
    return this.listeners.forOwner(owner).list();
  }

  /** The answer contains the secret, which is never shown again. */
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
