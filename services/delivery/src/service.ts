import { hash, randomUUID } from 'node:crypto'
import { AcceptedLogoutEvent } from '@curfew/client'
import {
  disablesBinding,
  type EventLog,
  type InFlightDelivery,
  type Lane,
  type WorkerId,
} from '@curfew/domain'
import { claimDue, type Database, disableBinding, releaseDeliveries } from '@curfew/ledger'
import { type GuardedClient, postLogoutToken } from '@curfew/outbound'
import {
  aborted,
  createValidator,
  type Log,
  type Metrics,
  type RunContext,
  type Service,
  sleep,
} from '@curfew/runtime'
import type { Keyring } from '@curfew/tokens'
import { createAttempt, type Round } from './attempt.ts'
import { createDispatcher } from './dispatcher.ts'
import { createIntake } from './intake.ts'
import { createRegistryCache } from './registry-cache.ts'
import { createSettler } from './settler.ts'
import { createWorker } from './worker.ts'

export { readDeliveryConfig } from './config.ts'

/** What delivery works with, already open. */
export interface DeliveryDeps {
  readonly eventLog: EventLog
  readonly db: Database
  readonly keyring: Keyring
  readonly client: GuardedClient
  readonly log: Log
  readonly metrics: Metrics
  /** Where this worker runs, for people. */
  readonly workerName: string
  /** After so long a silence a worker is declared dead, in milliseconds. */
  readonly leaseMs: number
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
const INTAKE_BATCH = 200
const SETTLE_BATCH = 500
/** Most deliveries in memory. Some 2 KiB each. */
const HELD_MAX = 10_000
const IDLE_MS = 200
const REGISTRY_POLL_MS = 500

/** Wires delivery: intake, dispatcher and attempts. Opens nothing, starts nothing. */
export function createDelivery(deps: DeliveryDeps): Service {
  return { name: 'delivery', run: (context) => runDelivery(deps, context) }
}

async function runDelivery(deps: DeliveryDeps, { stopping, abandoning, ready }: RunContext): Promise<void> {
  const { eventLog, db, keyring, client, log, metrics, workerName, leaseMs } = deps
  const now = () => new Date()
  const monotonicMs = () => performance.now()
  const observe = createObserver(metrics)

  const registry = createRegistryCache({ db, log, pollMs: REGISTRY_POLL_MS })
  const worker = createWorker({
    db,
    log,
    name: workerName,
    newWorkerId: () => randomUUID() as WorkerId,
    leaseMs,
    monotonicMs,
    onLost: () => dispatcher.clear(),
    held: () => dispatcher.ids(),
  })
  const settler = createSettler({ db, log, now, batchSize: SETTLE_BATCH, queueMax: HELD_MAX * 2, abandoning })
  const attempt = createAttempt({
    binding: (id) => registry.current().bindings.get(id),
    sign: async (issuer, algorithm, claims) => (await keyring.signer(issuer, algorithm)).sign(claims),
    post: (request) => postLogoutToken(client, request),
    now,
    random: Math.random,
    newJti: () => randomUUID(),
  })
  const dispatcher = createDispatcher({
    log,
    worker,
    concurrencyOf: (id) => registry.current().bindings.get(id)?.concurrency,
    claim: (request) => claimDue(db, { workerId: worker.id(), now: now(), ...request }),
    release: (deliveries, workerId) =>
      releaseDeliveries(db, { ids: deliveries.map(({ id }) => id), workerId, dueAt: now() }),
    attempt: (delivery) => attempt(delivery, abandoning),
    async settle(delivery, round, workerId) {
      const recorded = await settler.settle(workerId, round)
      observe(round)
      if (!recorded || round.settlement.state !== 'acknowledged') logRound(log, delivery, round, recorded)
      if (recorded && disablesBinding(round.outcome)) {
        await disableBinding(
          db,
          delivery.bindingId,
          'the endpoint answered 410 Gone; register it again to enable it',
        )
      }
    },
    heldMax: HELD_MAX,
    idleMs: IDLE_MS,
    monotonicMs,
  })
  metrics.gauge('deliveries_held', 'Deliveries leased to this worker and not settled.', () => dispatcher.held)
  const intake = createIntake({
    db,
    log,
    registry,
    worker,
    dispatcher,
    check: createValidator(AcceptedLogoutEvent),
    digest: (text) => hash('sha256', text),
    now,
  })

  await untilLedgerAnswers(
    async () => {
      await registry.refresh()
      await worker.register()
    },
    { log, stopping },
  )
  if (stopping.aborted) return

  // The heart beats until everything else has ended: what is being finished is still held.
  const ended = new AbortController()
  const background = [worker.beatUntil(ended.signal), registry.followUntil(ended.signal)]
  const claiming = dispatcher.claimUntil(stopping)
  const consumers = LANES.map((lane) =>
    eventLog.consume(
      {
        lane,
        batchSize: INTAKE_BATCH,
        batchesInFlight: 2,
        onError: (error) => log.warn({ event: 'event-log.consume-failed', lane, err: error }),
      },
      intake,
    ),
  )
  ready()

  await aborted(stopping)
  await Promise.all([claiming, ...consumers.map((consumer) => consumer.stop())])
  // What has not been started goes back with the worker's leave, below; what has been, ends.
  dispatcher.clear()
  await Promise.race([dispatcher.idle(), aborted(abandoning)])
  await Promise.race([settler.drain(), aborted(abandoning)])
  ended.abort()
  await Promise.all(background)
  try {
    const released = await worker.retire()
    if (released > 0) log.info({ event: 'deliveries.released', deliveries: released })
  } catch (error) {
    // The leases run out by themselves.
    log.warn({ event: 'worker.retire-failed', err: error })
  }
}

/** Repeats `work` until the ledger takes it: a service may be started before its database. */
async function untilLedgerAnswers(
  work: () => Promise<void>,
  { log, stopping }: { log: Log; stopping: AbortSignal },
): Promise<void> {
  while (!stopping.aborted) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ERR_LEDGER_UNAVAILABLE')) throw error
      log.warn({ event: 'ledger.away', err: error })
      await sleep(1_000, stopping)
    }
  }
}

function createObserver(metrics: Metrics): (round: Round) => void {
  const settled = metrics.counter(
    'deliveries_settled_total',
    'What became of deliveries, by state and reason.',
    ['state', 'reason'],
  )
  const durations = metrics.histogram(
    'attempt_duration_seconds',
    'Time from minting a token to the end of the answer.',
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    ['outcome'],
  )
  return ({ settlement, attempts }) => {
    settled.inc({
      state: settlement.state,
      reason: settlement.state === 'dead_lettered' ? settlement.reason : '',
    })
    for (const { durationMs, outcome } of attempts)
      durations.observe({ outcome: outcome.kind }, durationMs / 1_000)
  }
}

/** One line for each delivery that was not acknowledged, after it was settled. Acknowledgements are many: the ledger has them. */
function logRound(log: Log, delivery: InFlightDelivery, round: Round, recorded: boolean): void {
  const { settlement, outcome, attempts } = round
  const line = {
    event: 'delivery.attempted',
    delivery_id: delivery.id,
    event_id: delivery.eventId,
    binding_id: delivery.bindingId,
    outcome: outcome.kind,
    status: 'status' in outcome ? outcome.status : null,
    attempts: delivery.attempts + attempts.length,
    duration_ms: Math.round(attempts.at(-1)?.durationMs ?? 0),
    state: settlement.state,
    reason: settlement.state === 'dead_lettered' ? settlement.reason : null,
    due_at: settlement.state === 'pending' ? settlement.dueAt.toISOString() : null,
    recorded,
  }
  if (settlement.state === 'dead_lettered') log.error(line)
  else log.warn(line)
}
