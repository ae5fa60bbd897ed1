/** What the steps of the engine cost a program, in microseconds of CPU time. */
export interface StepCosts {
  /** A batch of events, without its deliveries. */
  readonly routeBatch: number;
  /** Routing of one delivery that is sent without a claim. */
  readonly route: number;
  /** Routing of one delivery that is stored and waits for a claim. */
  readonly routeStored: number;
  readonly claimBatch: number;
  readonly claim: number;
  /** One request: signing, sending, reading the answer. */
  readonly send: number;
  readonly recordBatch: number;
  /** One outcome of a delivery without a row: the record inserts it. */
  readonly record: number;
  /** One outcome of a stored delivery: the record updates it. */
  readonly recordStored: number;
}

/** Round trips between the sender and the database in one transaction of each kind. */
interface RoundTrips {
  readonly route: number;
  readonly claim: number;
  readonly record: number;
}

/** The costs of the engine. */
export interface EngineCosts {
  readonly sender: StepCosts;
  readonly database: StepCosts;
  readonly roundTrips: RoundTrips;
  /** Time of one round trip, without the CPU time of the server, in ms. */
  readonly roundTripMs: number;
  /** CPU time that a receiver on the same cores needs for a request; 0 if receivers have their own machines. */
  readonly receiverUs: number;
}
