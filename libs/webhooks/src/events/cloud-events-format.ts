import type { JsonObject } from '../json.js';
import { versionOf } from './payload.js';
import { JSON_CONTENT_TYPE, PayloadFormat } from './payload-format.js';

const SPEC_VERSION = '1.0';

/** The attributes that are the same for all events of an application. */
export interface CloudEventsOptions {
  /** The `source` of every event: a URI reference. */
  readonly source: string;
  /** The URL below which the schemas are, without a slash at its end. Without it, events have no `dataschema`. */
  readonly schemaBaseUrl?: string | undefined;
}

/**
 * The URI of the schema that `data` has (CloudEvents 1.0.2, `dataschema`). It names the version, because a schema that changes incompatibly
 * should have another URI.
 */
function schemaOf({ schemaBaseUrl }: CloudEventsOptions, type: string, version: number): string | undefined {
  return schemaBaseUrl === undefined ? undefined : `${schemaBaseUrl}/${type}.${version}.json`;
}

/**
 * CloudEvents 1.0 in structured mode. The body is one JSON object with the attributes of the event, and with the canonical
 * payload as `data`. The signature covers the whole body.
 *
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
 */
export class CloudEventsFormat extends PayloadFormat {
  readonly name = 'cloudevents';
  readonly contentType = 'application/cloudevents+json; charset=utf-8';

  constructor(private readonly options: CloudEventsOptions) {
    super();
  }

  render({ id, type, payload }: { id: string; type: string; payload: string }): string {
    const { timestamp } = JSON.parse(payload) as JsonObject;
    const dataschema = schemaOf(this.options, type, versionOf(payload));
    const attributes = {
      specversion: SPEC_VERSION,
      id,
      source: this.options.source,
      type,
      time: timestamp,
      dataschema,
    };
    // The payload text is inserted unchanged: parsing and serializing it again could change a number.
    return `${JSON.stringify({ ...attributes, datacontenttype: JSON_CONTENT_TYPE }).slice(0, -1)},"data":${payload}}`;
  }
}

/**
 * CloudEvents 1.0 in binary mode. The body is the canonical payload, and the attributes are headers. No scheme signs these headers.
 * But the body also contains the type and the time of the event, and the header `webhook-id` contains the id of the event.
 *
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
 */
export class CloudEventsBinaryFormat extends PayloadFormat {
  readonly name = 'cloudevents-binary';
  readonly contentType = JSON_CONTENT_TYPE;

  constructor(private readonly options: CloudEventsOptions) {
    super();
  }

  render({ payload }: { payload: string }): string {
    return payload;
  }

  override headersOf({
    id,
    type,
    createdAt,
    version,
  }: Parameters<NonNullable<PayloadFormat['headersOf']>>[0]): Record<string, string> {
    const dataschema = schemaOf(this.options, type, version);
    return {
      'ce-specversion': SPEC_VERSION,
      'ce-id': id,
      'ce-source': this.options.source,
      'ce-type': type,
      'ce-time': new Date(createdAt).toISOString(),
      ...(dataschema === undefined ? {} : { 'ce-dataschema': dataschema }),
    };
  }
}
