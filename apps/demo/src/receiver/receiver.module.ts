import { Module } from '@nestjs/common';
import { ReceiverController } from './receiver.controller.js';
import { ReceiverService } from './receiver.service.js';

/** The other end, which would be somebody else's application. */
@Module({ controllers: [ReceiverController], providers: [ReceiverService], exports: [ReceiverService] })
export class ReceiverModule {}
