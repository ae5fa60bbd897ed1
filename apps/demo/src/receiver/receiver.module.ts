import { Module } from '@nestjs/common';
import { ReceiverController } from './receiver.controller.js';
import { ReceiverService } from './receiver.service.js';

/** The receiver of the webhooks. In production, the receiver is another application. */
@Module({ controllers: [ReceiverController], providers: [ReceiverService], exports: [ReceiverService] })
export class ReceiverModule {}
