import { hash, randomUUID } from 'node:crypto'
import { AcceptedLogoutEvent } from '@curfew/contract'
import {
  type BindingId,
  type Consumer,
  DEFAULT_RETRY_POLICY,
  disablesBinding,
  type EventLog,
  horizonMs,
  type InFlightDelivery,
  type Lane,
  type WorkerId,
} from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import {
  aborted,
  createValidator,
  type Log,
  type Metrics,
  type RunContext,
  type Service,
  sleep,
} from '@curfew/runtime'
import type { ClientKeySealer, Keyring } from '@curfew/tokens'
import { createEncrypter, createTlsIdentities } from '@curfew/wiring'
import { createAttempt, type Round } from './attempt/attempt.ts'
import { createBreakerReports } from './dispatch/breaker-reports.ts'
import { createBulkPace } from './dispatch/bulk-pace.ts'
import { createDispatcher } from './dispatch/dispatcher.ts'
import { barred, limitsOf } from './dispatch/shares.ts'
import { createIntake } from './intake/intake.ts'
import { checkLanes, createLaneWatch } from './intake/lane-watch.ts'
import { createRegistryCache } from './intake/registry-cache.ts'
import { consumeSessions } from './intake/sessions.ts'
import { createAnnouncer } from './settle/announcer.ts'
import { createSettler } from './settle/settler.ts'
import { createLedgerClock } from './worker/ledger-clock.ts'
import { createWorker } from './worker/worker.ts'

export { heartbeatOptions, readDeliveryConfig } from './config.ts'
export { logDeliveryFaults } from './worker/faults.ts'
export { checkClock } from './worker/ledger-clock.ts'

/** What delivery works with, already open. */
export interface DeliveryDeps {
  readonly eventLog: EventLog
  readonly ledger: DeliveryLedger
  readonly keyring: Keyring
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly client: Pick<GuardedClient, 'get' | 'post'>
  readonly log: Log
  readonly metrics: Metrics
  /** Where this worker runs, for people. */
  readonly workerName: string
  /** After so long a silence a worker is declared dead, in milliseconds. */
  readonly leaseMs: number
  readonly chance?: Chance
  /** This machine's clock, in milliseconds since 1970. Default: `Date.now`. */
  readonly wallMs?: () => number
  /** How busy this process has been since the last call, 0 to 1. Default: its event loop. */
  readonly utilization?: () => number
}

/** Where randomness comes from. */
export interface Chance {
  /** Uniform in [0, 1). */
  random(): number
  uuid(): string
}

/** Events planned in one statement. Few of the bulk lane, so that people's get in between. */
const INTAKE_BATCH: Readonly<Record<Lane, number>> = { interactive: 200, bulk: 10 }
const LANES: readonly Lane[] = ['interactive', 'bulk']
/** Longest that planning waits for attempts to catch up, in milliseconds: it shares the processor with them. */
const ROOM_WAIT_MS = 50
const SETTLE_BATCH = 500
/** Most deliveries in memory. Some 2 KiB each. */
const HELD_MAX = 10_000
/**
 * Most attempts under way. It bounds sockets, and how many may wait for relying parties that hang; it is no measure of what the
 * processor takes, for most of an attempt is waiting.
 */
const ATTEMPTS_MAX = 4_096
/**
 * Attempts that begin in one turn of the event loop. Each takes about a third of a millisecond. Fewer would hold up ordinary load, which
 * then waits in the ledger: a second write for each delivery.
 */
const STARTS_PER_TURN = 64
const IDLE_MS = 200
const REGISTRY_POLL_MS = 500
/** Pause between two looks whether there is a database, and keys that can be opened, in milliseconds. */
const ABLE_PAUSE_MS = 1_000
/** Most that are given up on at once, for each binding and lane. */
const GIVE_UP_BATCH = 500

/** Compiled once for a process, for it takes milliseconds. */
const check = createValidator(AcceptedLogoutEvent)

/** The delivery service, and whether it can read the event log. */
export interface Delivery extends Service {
  /** Rejects while a lane has records that cannot be read, with the reason. */
  checkLanes(): Promise<void>
}

/** Wires delivery: intake, dispatcher and attempts. Opens nothing, starts nothing. */
export function createDelivery(deps: DeliveryDeps): Delivery {
  let consumers: readonly Consumer[] = []
  return {
    name: 'delivery',
    run: (context) =>
      runDelivery(deps, context, (all) => {
        consumers = all
      }),
    checkLanes: async () => checkLanes(consumers),
  }
}

async function runDelivery(
  deps: DeliveryDeps,
  { stopping, abandoning, ready }: RunContext,
  onConsuming: (consumers: readonly Consumer[]) => void,
): Promise<void> {
  const { eventLog, ledger, keyring, client, log, metrics, workerName, leaseMs } = deps
  const { random, uuid } = deps.chance ?? { random: Math.random, uuid: randomUUID }
  const monotonicMs = () => performance.now()
  const clock = createLedgerClock({ log, wallMs: deps.wallMs ?? Date.now, monotonicMs })
  const { now } = clock
  const utilization = deps.utilization ?? createUtilization()
  const observe = createObserver(metrics)

  const registry = createRegistryCache({ ledger, log, pollMs: REGISTRY_POLL_MS })
  const worker = createWorker({
    ledger,
    log,
    name: workerName,
    newWorkerId: () => uuid() as WorkerId,
    leaseMs,
    monotonicMs,
    clock,
    onLost: () => dispatcher.clear(),
    held: () => dispatcher.ids(),
  })
  const announcer = createAnnouncer({ ledger, log })
  const settler = createSettler({
    ledger,
    announcer,
    log,
    now,
    batchSize: SETTLE_BATCH,
    queueMax: HELD_MAX * 2,
    abandoning,
  })
  const attempt = createAttempt({
    binding: (id) => binding(id),
    catchUp: () => registry.catchUp(),
    sign: async ({ issuer, algorithm }, typ, claims) =>
      (await keyring.signer(issuer, algorithm)).sign(typ, claims),
    encrypter: createEncrypter({
      fetch: (uri, how) => fetchJson(client, uri, how),
      nowMs: () => now().getTime(),
    }),
    tls: createTlsIdentities(deps.clientKeys),
    openSecret: (sealed, owner) => deps.clientKeys.open(sealed, owner),
    post: (request) => client.post(request),
    now,
    random,
    newId: () => uuid(),
  })
  const binding = (id: BindingId) => registry.current().bindings.get(id)
  const bulkPace = createBulkPace({ utilization, monotonicMs })
  // Beats, and words about breakers, go on until everything else has ended: what is being finished is still held.
  const ended = new AbortController()
  const breakers = createBreakerReports({ ledger, workerId: () => worker.id(), log, ended: ended.signal })
  const dispatcher = createDispatcher({
    log,
    worker,
    limitsOf: (id) => limitsOf(binding(id), worker.standing(), id),
    barred: () => barred(registry.current(), worker.standing()),
    bindingsOf: (issuer) => (registry.current().issuers.get(issuer)?.bindings ?? []).map(({ id }) => id),
    bulkPace,
    claim: (request) => ledger.claimDue({ now: now(), ...request }),
    async release(held) {
      const [first] = held
      if (first === undefined) return
      const ids = held.map(({ delivery }) => delivery.id)
      await ledger.releaseDeliveries({ ids, workerId: first.lease.workerId })
      for (const { delivery, lease } of held) worker.ended(lease, [delivery.id])
    },
    attempt: (delivery) => attempt(delivery, stopping),
    async settle(delivery, round, lease) {
      // Cut off by our own end, not by the RP's doing: it goes back as it was.
      if (abandoning.aborted && round.outcome?.kind === 'unavailable') return
      const recorded = await settler.settle(lease.workerId, round)
      if (recorded) worker.ended(lease, [delivery.id])
      observe(round)
      const usual = recorded && round.settlement.state === 'acknowledged'
      if (!usual || log.isLevelEnabled('debug')) logRound(log, delivery, round, recorded)
      if (recorded && round.outcome !== null && round.uri !== null && disablesBinding(round.outcome)) {
        await ledger.disableBinding(delivery.bindingId, {
          uri: round.uri,
          reason: 'the endpoint answered 410 Gone; register it again to enable it',
        })
      }
    },
    onBreaker: (bindingId, state) => breakers.note(bindingId, state),
    async recovered(bindingId) {
      const deliveries = await ledger.bringForward({ bindingId, now: now() })
      log.info({ event: 'binding.recovered', binding_id: bindingId, deliveries })
    },
    async giveUp(ids) {
      const nowMs = now().getTime()
      const retryOf = (id: BindingId) => binding(id)?.retry ?? DEFAULT_RETRY_POLICY
      const dueBefore = new Map(ids.map((id) => [id, new Date(nowMs - horizonMs(retryOf(id)))]))
      const given = await ledger.giveUpUnreachable({ dueBefore, now: now(), limit: GIVE_UP_BATCH })
      if (given > 0) log.error({ event: 'deliveries.given-up', deliveries: given, reason: 'unreachable' })
    },
    heldMax: HELD_MAX,
    attemptsMax: ATTEMPTS_MAX,
    startsPerTurn: STARTS_PER_TURN,
    idleMs: IDLE_MS,
    monotonicMs,
    random,
  })
  metrics.gauge('deliveries_held', 'Deliveries leased to this worker and not settled.', () => dispatcher.held)
  metrics.gauge('attempts_running', 'Attempts under way.', () => dispatcher.running)
  metrics.gauge(
    'attempts_running_most',
    'Attempts under way of the issuer that has the most.',
    () => dispatcher.mostRunning,
  )
  metrics.gauge('breakers_open', 'Relying parties that are known to be down.', () => dispatcher.open)
  const unknownIssuers = metrics.counter(
    'events_of_unknown_issuers_total',
    'Accepted logout events that owed no delivery, because their iss is not registered.',
  )
  const intakeOf = (lane: Lane) =>
    createIntake({
      ledger,
      log,
      registry,
      worker,
      announcer,
      dispatcher,
      admit: (issuers) =>
        lane === 'bulk' ? bulkPace.ready(stopping) : dispatcher.waitForRoom(ROOM_WAIT_MS, issuers),
      onPlanned: (deliveries) => {
        if (lane === 'bulk') bulkPace.spend('fresh', deliveries)
      },
      onUnknownIssuer: (events) => unknownIssuers.inc(events),
      check,
      digest: (text) => hash('sha256', text),
      now,
    })

  await untilAble(
    async () => {
      await registry.refresh()
      // With a master key that opens nothing, all that is owed would be given up on within minutes.
      await keyring.check()
      await worker.register()
    },
    { log, stopping },
  )
  if (stopping.aborted) return

  const background = [worker.beatUntil(ended.signal), registry.followUntil(ended.signal)]
  const claiming = dispatcher.claimUntil(stopping)
  const watched = createLaneWatch({ ledger, worker, log, metrics })
  const logouts = LANES.map((lane) =>
    eventLog.consume({ ...watched(lane), batchSize: INTAKE_BATCH[lane], batchesInFlight: 2 }, intakeOf(lane)),
  )
  const sessions = consumeSessions({
    eventLog,
    watched,
    ledger,
    log,
    metrics,
    admit: () => dispatcher.waitForRoom(ROOM_WAIT_MS),
    now,
  })
  const consumers = [...logouts, sessions]
  onConsuming(consumers)
  ready()

  await aborted(stopping)
  await Promise.all([claiming, ...consumers.map((consumer) => consumer.stop())])
  // What has not been started goes back with the worker's leave, below; what has been, ends.
  dispatcher.clear()
  await Promise.race([dispatcher.idle(), aborted(abandoning)])
  await Promise.race([settler.drain(), aborted(abandoning)])
  await Promise.race([announcer.idle(), aborted(abandoning)])
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

/** Repeats `work` until it succeeds: a service may be started before its database, and with a master key that must be mended first. */
async function untilAble(
  work: () => Promise<void>,
  { log, stopping }: { log: Log; stopping: AbortSignal },
): Promise<void> {
  while (!stopping.aborted) {
    try {
      return await work()
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : null
      if (code === 'ERR_LEDGER_UNAVAILABLE') log.warn({ event: 'ledger.away', err: error })
      else if (code === 'ERR_LEDGER_SCHEMA') log.error({ event: 'ledger.not-migrated', err: error })
      else if (code === 'ERR_SIGNING_KEY') log.error({ event: 'master-key.wrong', err: error })
      else throw error
      await sleep(ABLE_PAUSE_MS, stopping)
    }
  }
}

/** How busy this process's event loop has been since the last call, 0 to 1. */
function createUtilization(): () => number {
  let last = performance.eventLoopUtilization()
  return () => {
    const current = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(current, last)
    last = current
    return utilization
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

/** One line for each delivery attempted, after it was settled. Successes are many, so they are for debugging. */
function logRound(log: Log, delivery: InFlightDelivery, round: Round, recorded: boolean): void {
  const { settlement, outcome, attempts } = round
  const line = {
    event: 'delivery.attempted',
    delivery_id: delivery.id,
    event_id: delivery.event.givenId,
    iss: delivery.event.iss,
    binding_id: delivery.bindingId,
    outcome: outcome?.kind ?? null,
    status: outcome !== null && 'status' in outcome ? outcome.status : null,
    attempts: delivery.attempts + attempts.length,
    duration_ms: Math.round(attempts.at(-1)?.durationMs ?? 0),
    state: settlement.state,
    reason: settlement.state === 'dead_lettered' ? settlement.reason : null,
    due_at: settlement.state === 'pending' ? settlement.dueAt.toISOString() : null,
    recorded,
  }
  if (settlement.state === 'acknowledged' && recorded) log.debug(line)
  else if (settlement.state === 'dead_lettered') log.error(line)
  else log.warn(line)
}
