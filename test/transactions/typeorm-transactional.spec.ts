import { DataSource } from 'typeorm';
import {
  addTransactionalDataSource,
  deleteDataSourceByName,
  initializeTransactionalContext,
  Propagation,
  runInTransaction,
  StorageDriver,
} from 'typeorm-transactional';
import { describeAmbient, Note } from './ambient.js';

initializeTransactionalContext({ storageDriver: StorageDriver.ASYNC_LOCAL_STORAGE });

describeAmbient('inside @Transactional() of typeorm-transactional', {
  options: {
    dataSourceFactory: (options) => addTransactionalDataSource(new DataSource(options)).initialize(),
  },
  inTransaction: (_, work) => runInTransaction(work),
  // `Propagation.NESTED` of this library starts a second transaction on another connection.
  inSavepoint: (app, work) => app.dataSource.manager.transaction(work),
  outside: (_, work) => runInTransaction(work, { propagation: Propagation.NOT_SUPPORTED }),
  notes: (app) => app.dataSource.getRepository(Note),
  cleanUp: () => deleteDataSourceByName('default'),
});
