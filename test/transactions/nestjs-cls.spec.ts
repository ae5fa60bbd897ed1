import { ClsPluginTransactional, Propagation, TransactionHost } from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { ClsModule } from 'nestjs-cls';
import { DataSource } from 'typeorm';
import type { TestApp } from '../support/webhooks-app.js';
import { describeAmbient, Note } from './ambient.js';

const host = (app: TestApp) => app.app.get<TransactionHost<TransactionalAdapterTypeOrm>>(TransactionHost);

describeAmbient('inside @Transactional() of @nestjs-cls/transactional', {
  options: {
    imports: [
      ClsModule.forRoot({
        plugins: [
          new ClsPluginTransactional({
            adapter: new TransactionalAdapterTypeOrm({ dataSourceToken: DataSource }),
          }),
        ],
      }),
    ],
  },
  inTransaction: (app, work) => host(app).withTransaction(work),
  inSavepoint: (app, work) => host(app).withTransaction(Propagation.Nested, work),
  outside: (app, work) => host(app).withTransaction(Propagation.NotSupported, work),
  notes: (app) => host(app).tx.getRepository(Note),
});
