import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { WebhooksModule } from 'nestjs-entity-webhooks';
import { User } from './user.entity.js';
import { UsersController } from './users.controller.js';
import { UsersService } from './users.service.js';

@Module({
  imports: [
    TypeOrmModule.forFeature([User]),
    // These options replace the decorator, for an entity that you cannot or do not want to decorate. `fields` excludes the
    // password hash.
    WebhooksModule.forFeature([{ entity: User, fields: ['id', 'username', 'email'], owner: 'id' }]),
  ],
  controllers: [UsersController],
  providers: [UsersService],
  exports: [UsersService],
})
export class UsersModule {}
