import { Module } from '@nestjs/common';
import { OrdersModule } from '../orders/orders.module.js';
import { ReceiverModule } from '../receiver/receiver.module.js';
import { UsersModule } from '../users/users.module.js';
import { ShowcaseService } from './showcase.service.js';

@Module({ imports: [UsersModule, OrdersModule, ReceiverModule], providers: [ShowcaseService] })
export class ShowcaseModule {}
