import type { OperationTypes } from 'nestjs-entity-webhooks/client';

// The shapes of the API, as the pages use them.

type Answer<Name extends keyof OperationTypes> = OperationTypes[Name]['answer'];

export type Listener = Answer<'getListener'>;
export type Delivery = Answer<'listDeliveries'>['items'][number];
export type DeliveryDetails = Answer<'getDelivery'>;
export type DeliveryState = Delivery['state'];
export type EventType = Answer<'listEventTypes'>['items'][number];
export type EventTypeDetails = Answer<'getEventType'>;
export type Overview = Answer<'getOverview'>;
export type Sending = Answer<'getSending'>;
export type Statistics = Answer<'getStatistics'>;
export type Task = Answer<'getTask'>;
export type StoredEvent = Answer<'getEvent'>;
export type SkippedListener = Answer<'listSkippedListeners'>['items'][number];
export type StoredEventSummary = Answer<'listEvents'>['items'][number];

export type Attempt = DeliveryDetails['attempts'][number];
