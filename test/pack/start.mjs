// Starts an application without an entity, and prints the code and the message of the error that stops it. This file does not import TypeORM,
// because some versions lack names that others have.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { WebhooksModule } from 'nestjs-entity-webhooks';

class App {}
Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'better-sqlite3', database: ':memory:', synchronize: true, retryAttempts: 0 }),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot({}),
  ],
})(App);

try {
  const app = await NestFactory.createApplicationContext(App, { logger: false, abortOnError: false });
  await app.close();
  console.log('started');
} catch (error) {
  console.log(error.code, error.message);
}
