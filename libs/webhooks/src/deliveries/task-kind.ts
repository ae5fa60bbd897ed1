/**
 * - `recover`: failed deliveries are sent again
 * - `replay`: past events are sent to a listener that has no delivery of them
 * - `discard`: pending deliveries are not sent
 * - `erase`: the content of events is erased: payloads, bodies and answers
 * - `reseal`: the secrets of all listeners are sealed with the first of `secrets.keys`
 */
export type TaskKind = 'recover' | 'replay' | 'discard' | 'erase' | 'reseal';
