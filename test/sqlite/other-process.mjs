// A separate process that writes to the given file. It gets its commands as messages, and answers each with `done`.
import { createRequire } from 'node:module';

const Database = createRequire(import.meta.url)('better-sqlite3');
const connection = new Database(process.argv[2], { timeout: 20_000 });

const orders = {
  begin: () => connection.exec("BEGIN IMMEDIATE; INSERT INTO item (name) VALUES ('of the other process')"),
  commit: () => connection.exec('COMMIT'),
  increment: (times) => {
    for (let i = 0; i < times; i++) {
      connection
        .transaction(() => {
          const { name } = connection.prepare('SELECT name FROM item WHERE id = 1').get();
          connection.prepare('UPDATE item SET name = ? WHERE id = 1').run(String(Number(name) + 1));
        })
        .immediate();
    }
  },
};

process.on('message', ([order, argument]) => {
  orders[order](argument);
  process.send('done');
});
process.on('disconnect', () => connection.close());
process.send('done');
