// Which folder of libs/webhooks/src may import which, imports of types included. `npm run arrows` checks it, and `npm run verify` with it.
//
// Each layer may import every layer below it. Columns of one layer do not know each other. In a column of several folders, a folder may
// import those after it. So neither folders nor layers can import each other in a circle.
const SRC = 'libs/webhooks/src';
/** The pages of the dashboard, which run in browsers. */
const PAGES = 'libs/webhooks/ui/src';

const LAYERS = [
  // The command line, in its own process.
  [['cli', 'cli/commands', 'cli/doctor', 'cli/receiving', 'cli/services', 'cli/data-source', 'cli/terminal']],
  // What users import.
  [
    ['migrations'],
    // What `npx nestjs-entity-webhooks plan` computes.
    ['plan', 'plan/simulation'],
    ['testing', 'testing/witness'],
    ['receiver/nest', 'receiver'],
    ['verify'],
    ['otel'],
    ['terminus'],
    ['bullmq'],
    ['client', 'api', 'catalog'],
    ['dashboard'],
    ['index', 'keys'],
  ],
  // Several instances that share the owners.
  [['shards']],
  // Files of the root that put an instance together.
  [['runtime']],
  [['dispatcher', 'dispatcher/wake-ups'], ['publishing']],
  [
    [
      'capture',
      'capture/links',
      'capture/statements',
      'capture/triggers',
      'capture/images',
      'capture/transactions',
      'capture/changes',
      'capture/plans',
      'capture/typeorm',
    ],
    ['deliveries'],
    ['system'],
    ['listeners', 'listeners/credentials', 'listeners/handshake'],
  ],
  [['store/queue', 'store/outbox', 'store/listeners', 'store/requests', 'store/system', 'store/database']],
  // Above the parts that it configures: an option is checked by the code that uses it, and has its type.
  [['options']],
  [['routing'], ['health'], ['secrets'], ['entities'], ['archive']],
  [['diagnostics']],
  [['events']],
  [['sending'], ['signing'], ['sqlite'], ['raw-body']],
  // Files of the root that import nothing but each other.
  [['single files']],
];

/** These may import less than their layer says. */
const ONLY = {
  // A receiver installs this package without a sender: it must load neither the core nor undici.
  receiver: ['events', 'signing', 'raw-body'],
  'receiver/nest': ['receiver', 'events', 'signing', 'raw-body', 'sqlite'],
  // It works without the rest of the library.
  sqlite: [],
  'raw-body': [],
};

/** These may be imported although the layers say no. */
const EXCEPTIONS = [
  {
    from: 'receiver/nest',
    to: '^store/database/(column-kinds|create-table|database-errors|table-names)\\.ts$',
    because: 'the inbox is a table of ours: its column types, its names and its retries are those of all our tables',
  },
  {
    from: 'migrations',
    to: '^receiver/nest/inbox-table\\.ts$',
    because: 'webhookInboxEntities() is exported beside webhookInboxMigrations(), and the module checks the same table',
  },
  {
    from: 'otel',
    to: '^receiver/incoming-webhook-channel\\.ts$',
    because: 'it counts what a receiver reports, and loads nothing else of it',
  },
  {
    from: 'testing',
    to: '^receiver/[^/]+\\.ts$',
    because: 'the TestReceiver of tests verifies webhooks with the code that receivers use',
  },
];

/** Files of the root that put the parts together. All others of the root are single files. */
const RUNTIME =
  '(tokens|webhooks\\.module|webhooks-core\\.module|webhooks-worker\\.module|webhooks-runtime|runtime-parts|create-services|open-database|check-database|check-stored-work|event-handlers|registered-parts|webhooks-exception\\.filter|ambient-managers)';

/** @param {string} folder */
function filesOf(folder) {
  if (folder === 'index') return `^${SRC}/index\\.ts$`;
  if (folder === 'runtime') return `^${SRC}/${RUNTIME}\\.ts$`;
  if (folder === 'single files') return `^${SRC}/(?!index\\.|${RUNTIME}\\.)[^/]+\\.ts$`;
  return `^${SRC}/${folder}/[^/]+\\.ts$`;
}

const SINGLE_FILES = filesOf('single files');

/** @param {string} folder @param {number} layer @param {string[]} column */
function ruleOf(folder, layer, column) {
  const below = LAYERS.slice(layer + 1).flat(2);
  const mayImport = ONLY[folder] ?? [...column.slice(column.indexOf(folder) + 1), ...below];
  const exceptions = EXCEPTIONS.filter(({ from }) => from === folder).map(({ to }) => to.replace('^', `^${SRC}/`));
  return {
    name: `arrows of ${folder}`,
    severity: 'error',
    comment: `${folder} may import ${[...mayImport, 'single files'].join(', ')}. See .dependency-cruiser.mjs.`,
    from: { path: filesOf(folder) },
    to: { path: `^${SRC}/`, pathNot: [filesOf(folder), SINGLE_FILES, ...mayImport.map(filesOf), ...exceptions] },
  };
}

const FOLDERS = LAYERS.flat(2);

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...LAYERS.flatMap((columns, layer) => columns.flatMap((column) => column.map((one) => ruleOf(one, layer, column)))),
    {
      name: 'folder without a layer',
      severity: 'error',
      comment: 'Every folder stands in LAYERS of .dependency-cruiser.mjs.',
      from: { path: `^${SRC}/`, pathNot: FOLDERS.map(filesOf) },
      to: {},
    },
    {
      name: 'arrows of the pages',
      severity: 'error',
      comment:
        'The pages know the API by its client. Other code of the server may load modules that browsers do not have.',
      from: { path: `^${PAGES}/` },
      to: { path: `^${SRC}/`, pathNot: [`^${SRC}/client/index\\.ts$`, `^${SRC}/routing/operators\\.ts$`] },
    },
    {
      name: 'arrows to the pages',
      severity: 'error',
      comment: 'The server has the pages only as built files.',
      from: { path: `^${SRC}/` },
      to: { path: `^${PAGES}/` },
    },
    {
      name: 'no circle of files',
      severity: 'error',
      comment: 'Two files that import each other cannot be read, tested or moved alone. Types count.',
      from: { path: `^${SRC}/` },
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    includeOnly: `^(${SRC}|${PAGES})/`,
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
