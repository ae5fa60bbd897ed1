import { expect } from 'vitest';
import type { JsonObject } from 'nestjs-entity-webhooks';

import type { ExpectedEvent } from './operation.js';

export const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown as string;

export const created = (type: string, data: JsonObject): ExpectedEvent => ({ type: `${type}.created`, data });
export const updated = (type: string, data: JsonObject, previous: JsonObject): ExpectedEvent => ({
  type: `${type}.updated`,
  data,
  previous,
});
export const deleted = (type: string, data: JsonObject): ExpectedEvent => ({ type: `${type}.deleted`, data });
export const restored = (type: string, data: JsonObject): ExpectedEvent => ({ type: `${type}.restored`, data });
