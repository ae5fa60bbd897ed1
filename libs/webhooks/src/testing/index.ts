/**
 * Helpers for the tests of applications that send webhooks. The helpers work with every test runner, because failed expectations
 * throw AssertionErrors.
 *
 * @packageDocumentation
 */
export { drain } from './drain.js';
export { type ExpectedDelivery, expectDelivered, expectNothingSent } from './expectations.js';
export { FakeClock } from './fake-clock.js';
export { FakeDns } from './fake-dns.js';
export { type ReceivedRequest, type ReceiverResponse, type Responder, TestReceiver } from './test-receiver.js';
export { EventWitness } from './witness/event-witness.js';
