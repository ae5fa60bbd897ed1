import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { describe, expect, it } from 'vitest';

import { API_OPTIONS } from '../../libs/webhooks/src/api/api-options.js';
import { BULLMQ_OPTIONS } from '../../libs/webhooks/src/bullmq/bullmq-engine-options.js';
import { DASHBOARD_OPTIONS } from '../../libs/webhooks/src/dashboard/dashboard-options.js';
import { KEYS_OPTIONS } from '../../libs/webhooks/src/keys/webhooks-keys.module.js';
import { WEBHOOKS_MODULE_OPTIONS } from '../../libs/webhooks/src/options/resolve-options.js';
import type { AnyOptionTable } from '../../libs/webhooks/src/option-table.js';
import { INCOMING_WEBHOOKS_OPTIONS } from '../../libs/webhooks/src/receiver/nest/incoming-webhooks-options.js';
import { TELEMETRY_OPTIONS } from '../../libs/webhooks/src/otel/webhooks-telemetry.module.js';
import { SHARDS_OPTIONS } from '../../libs/webhooks/src/shards/webhooks-shards.module.js';
import { VERIFY_OPTIONS } from '../../libs/webhooks/src/verify/webhooks-verify.module.js';
import { WORKSPACE } from '../support/scratch-project.js';
import { documentedOptions, optionRows } from './option-rows.js';

const PAGES: [page: string, type: string, table: AnyOptionTable][] = [
  ['options.md', 'WebhooksModuleOptions', WEBHOOKS_MODULE_OPTIONS],
  ['receiving/nest.md', 'IncomingWebhooksModuleOptions', INCOMING_WEBHOOKS_OPTIONS],
  ['api.md', 'WebhooksApiOptions', API_OPTIONS],
  ['scaling.md', 'WebhooksShardsOptions', SHARDS_OPTIONS],
  ['bullmq.md', 'BullmqEngineOptions', BULLMQ_OPTIONS],
  ['dashboard.md', 'WebhooksDashboardOptions', DASHBOARD_OPTIONS],
  ['verify.md', 'WebhooksVerifyOptions', VERIFY_OPTIONS],
  ['signing.md', 'WebhooksKeysOptions', KEYS_OPTIONS],
  ['observability.md', 'WebhooksTelemetryOptions', TELEMETRY_OPTIONS],
];

const PLACE = /(<!-- options -->\n)[\s\S]*?(<!-- \/options -->)/;

describe.each(PAGES)('the table of options in docs/%s', (page, type, table) => {
  it('equals the table in the code, with the comments of the interface (UPDATE_DOCS=1 writes it)', async () => {
    const file = join(WORKSPACE, 'docs', page);
    const rows = optionRows(documentedOptions(type, table), page);
    const text = await readFile(file, 'utf8');
    expect(text).toMatch(PLACE);
    const written = text.replace(PLACE, (_, start: string, end: string) => `${start}\n${rows}\n\n${end}`);
    const formatted = await format(written, { ...(await resolveConfig(file)), parser: 'markdown' });
    if (process.env.UPDATE_DOCS) await writeFile(file, formatted);
    expect(await readFile(file, 'utf8')).toBe(formatted);
  });

  it('shows defaults that the comments of the interface name, too', () => {
    for (const { path, option, defaultValue } of documentedOptions(type, table)) {
      if (option.default === undefined || option.default === 'required') continue;
      expect([path, digits(defaultValue)]).toEqual([path, expect.stringMatching(startOf(option.default))]);
    }
  });
});

/** `86_400_000 (24 hours)` of a comment and `86,400,000 (1 day)` of a table have the same digits. */
function digits(text = ''): string {
  return text.replaceAll(/(?<=\d)[_,](?=\d)/g, '').replaceAll('`', '');
}

function startOf(text: string): RegExp {
  const [start = ''] = /^'.*'|^[^( ]+/.exec(digits(text)) ?? [];
  return new RegExp(`^${start.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?=$|[\\s(,:;])`);
}
