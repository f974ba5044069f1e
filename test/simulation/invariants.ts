import { beganAfter, QUICK_RETRIES_MS } from '@curfew/domain'
import { lastOf, type MemoryAttempt, type MemoryDelivery } from '../support/memory-rows.ts'
import { describe, type Evidence, type Invariant, owedFor } from './evidence.ts'
import { FALLBACK_INVARIANTS } from './fallback-invariants.ts'
import { limitViolations } from './limits.ts'
import type { Run } from './run.ts'
import type { RelyingPartyPlan } from './scenario.ts'
import { mayBeLeftOut, mayBeWithheld, SESSION_INVARIANTS } from './session-invariants.ts'
import { EPOCH_MS } from './virtual-time.ts'

// What must hold after every run. Each invariant gives a line for each way in which it does not, and looks at what the world
// saw: what the IdP was told, what relying parties received and answered, and what the ledger says of it.

const INVARIANTS: Readonly<Record<string, Invariant>> = {
  'each accepted event is settled': eventsSettled,
  'at every instant each accepted logout is settled, due, or held': ({ unaccounted }) => unaccounted,
  'every RP that should be told was told, or has its dead letter': everybodyTold,
  'nobody else is told': nobodyElseTold,
  ...SESSION_INVARIANTS,
  ...FALLBACK_INVARIANTS,
  'attempts are within limits': attemptsWithinLimits,
  'nothing is acknowledged that no RP acknowledged': acknowledgementsReal,
  'no RP is delayed by another': nobodyDelayed,
  'a dead letter has its reason': deadLettersJustified,
  'each attempt is recorded': attemptsRecorded,
  'what is superseded is covered': supersessionsCovered,
  'a breaker closes when its RP is back': breakersClosed,
  'what cannot be read is in quarantine, and nothing else': quarantineRight,
  'no worker decides by a clock of its own': clocksIgnored,
  'processes end as they should': ({ faults }) => faults,
}

/** Every violation, in words, each beginning with the name of its invariant. None when all is well. */
export function findViolations(run: Run): readonly string[] {
  const evidence: Evidence = {
    ...run,
    planByBinding: new Map(run.scenario.relyingParties.map((plan) => [plan.binding.id, plan])),
    attemptsOf: Map.groupBy(run.ledger.attempts, ({ deliveryId }) => String(deliveryId)),
    byJti: Map.groupBy(run.received, ({ claims }) => claims.jti),
  }
  return Object.entries(INVARIANTS).flatMap(([name, find]) =>
    [...find(evidence)].map((violation) => `${name}: ${violation}`),
  )
}

function* eventsSettled({ accepted, ledger, memoryLog, finished, scenario }: Evidence): Iterable<string> {
  for (const [id, { acceptedMs }] of accepted) {
    if (!ledger.events.has(id)) yield `event ${id}, accepted at ${acceptedMs} ms, is not in the ledger`
  }
  for (const row of ledger.deliveries.values()) {
    if (row.settledAt === null) yield `${describe(row)} is not settled after ${scenario.boundMs} ms`
  }
  const left = memoryLog.depth('interactive') + memoryLog.depth('bulk')
  if (left > 0) yield `${left} records are left in the log`
  if (accepted.size < scenario.posts.length) yield 'not every post was accepted'
  if (!finished) yield 'the run did not come to its end'
}

/** A call may be slow on its way, by eight seconds at most; so may each way of the heartbeat that the time was taken from. */
const SLOW_MS_MAX = 20_000

function* clocksIgnored({ ledger: { skewMs } }: Evidence): Iterable<string> {
  if (skewMs > SLOW_MS_MAX) yield `a worker decided by a time that is ${skewMs} ms off the ledger's`
}

function* everybodyTold(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, received } = evidence
  const rows = Map.groupBy(ledger.deliveries.values(), ({ eventId }) => String(eventId))
  for (const post of scenario.posts) {
    for (const { binding, registeredMs, removedMs, steady } of scenario.relyingParties) {
      if (!owedFor(post, binding) || registeredMs > post.atMs || removedMs !== null) continue
      const owed = rows.get(post.event.id)?.filter(({ bindingId }) => bindingId === binding.id) ?? []
      if (owed.length === 0 && binding.fallbackFor === null && !mayBeLeftOut(evidence, post.event, binding)) {
        yield `event ${post.event.id} has no delivery to binding ${binding.id}, registered at ${registeredMs} ms`
      }
      for (const row of owed) {
        const last = lastOf(row, ledger.deliveries)
        if (last.deadLetterReason === 'later_session') continue
        if (last.state === 'lapsed' && last.delivery.sessionEndsAt !== null) continue
        const told = received.some(
          ({ bindingId, eventId, status }) =>
            bindingId === binding.id && eventId === last.eventId && (status === 200 || status === 204),
        )
        if (!told && last.state !== 'dead_lettered') yield `${describe(last)}: the RP was never told`
        // It answers whatever comes, so nothing excuses a dead letter.
        if (steady && !told) yield `${describe(last)}: the RP was well all the time and was not told`
      }
    }
  }
}

function* nobodyElseTold({ scenario, received, planByBinding, ledger }: Evidence): Iterable<string> {
  const posts = new Map(scenario.posts.map((post) => [post.event.id, post]))
  for (const { bindingId, claims, eventId, atMs } of received) {
    const post = posts.get(eventId)
    const plan = planByBinding.get(bindingId)
    if (post === undefined || plan === undefined || !owedFor(post, plan.binding)) {
      yield `binding ${bindingId} was told of event ${claims.txn} at ${atMs} ms, which is none of its business`
      continue
    }
    const { event } = post
    if (claims.aud !== plan.binding.clientId) yield `${claims.jti} names ${claims.aud} as its audience`
    const wrongSub = claims.sub !== undefined && claims.sub !== event.sub
    const own = ledger.sessionRows.some(
      ({ session }) =>
        session.sid === claims.sid &&
        session.sub === event.sub &&
        session.clientId === plan.binding.clientId &&
        !beganAfter(session, event),
    )
    if (wrongSub || (claims.sid !== undefined && claims.sid !== event.sid && !own)) {
      yield `${claims.jti} logs out ${claims.sub} ${claims.sid}, and the event ${event.sub} ${event.sid}`
    }
  }
}

function* attemptsWithinLimits(evidence: Evidence): Iterable<string> {
  const { ledger, planByBinding, attemptsOf, byJti, scenario } = evidence
  for (const [jti, posts] of byJti) {
    if (posts.length > 1) yield `token ${jti} was sent ${posts.length} times`
  }
  for (const row of ledger.deliveries.values()) {
    const plan = planByBinding.get(row.bindingId)
    // Who was removed has the default policy for what was under way.
    if (plan === undefined || plan.removedMs !== null) continue
    const { scheduleMs, refusedScheduleMs } = plan.binding.retry
    const attempts = attemptsOf.get(row.id) ?? []
    const each = 1 + QUICK_RETRIES_MS.length + scheduleMs.length + refusedScheduleMs.length
    const most = each * (1 + row.generation)
    const numbers = attempts.map(({ number }) => number)
    if (numbers.length > most) yield `${describe(row)}: ${numbers.length} attempts, of ${most} at most`
    if (numbers.some((number, index) => number !== index + 1) || numbers.length !== row.attempts)
      yield `${describe(row)}: its attempts are numbered ${numbers.join()}`
    if (row.retries > scheduleMs.length) yield `${describe(row)}: ${row.retries} retries`
    if (row.refusals > refusedScheduleMs.length) yield `${describe(row)}: ${row.refusals} refusals`
  }
  // Where nobody crashes, what was sent and what is recorded is the same.
  if (!scenario.calm) return
  const recorded = new Set(ledger.attempts.map(({ jti }) => jti))
  for (const jti of byJti.keys()) if (!recorded.has(jti)) yield `token ${jti} was sent and is not recorded`
  yield* limitViolations(evidence)
}

function* acknowledgementsReal({ ledger, attemptsOf, byJti }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    for (const { outcome, jti, number } of attemptsOf.get(row.id) ?? []) {
      if (outcome.kind !== 'acknowledged') continue
      const [answered] = byJti.get(jti ?? '') ?? []
      const real =
        answered?.bindingId === row.bindingId &&
        answered.eventId === row.eventId &&
        (answered.status === 200 || answered.status === 204)
      if (!real) yield `${describe(row)}: attempt ${number} is recorded as acknowledged, and no RP said so`
    }
    const last = attemptsOf.get(row.id)?.at(-1)
    if ((row.state === 'acknowledged') !== (last?.outcome.kind === 'acknowledged')) {
      yield `${describe(row)}: its last attempt came to ${last?.outcome.kind}`
    }
  }
}

/** Of a calm run: to the first POST at an RP that is well, whatever the others do, in milliseconds. */
const DELAY_MS = { interactive: 500, bulk: 1_500 }
/** Of any run, once all is quiet: leases have run out by then, and what they held has gone on. */
const recoveryMs = (leaseMs: number) => 2 * leaseMs + 5_000

function* nobodyDelayed({ scenario, ledger, received, accepted, planByBinding }: Evidence): Iterable<string> {
  const { calm, quietMs, leaseMs } = scenario
  const first = new Map<string, number>()
  for (const { bindingId, eventId, atMs } of received) {
    const key = `${eventId} ${bindingId}`
    first.set(key, Math.min(first.get(key) ?? Number.POSITIVE_INFINITY, atMs))
  }
  for (const row of ledger.deliveries.values()) {
    if (planByBinding.get(row.bindingId)?.steady !== true) continue
    const last = lastOf(row, ledger.deliveries)
    if (last.state === 'lapsed' || last.deadLetterReason === 'later_session') continue
    // What was missed is owed from when that was found.
    const missed = row.plannedAt > (ledger.events.get(row.eventId)?.plannedAt ?? row.plannedAt)
    const acceptedMs = missed
      ? row.plannedAt.getTime() - EPOCH_MS
      : (accepted.get(row.eventId)?.acceptedMs ?? 0)
    const toldMs = first.get(`${last.eventId} ${last.bindingId}`) ?? Number.POSITIVE_INFINITY
    const boundMs = calm
      ? acceptedMs + DELAY_MS[row.lane]
      : Math.max(acceptedMs, quietMs) + recoveryMs(leaseMs)
    if (toldMs > boundMs) {
      yield `${describe(row)}: accepted at ${acceptedMs} ms, and its RP, which was well, was first told at ${toldMs} ms, not by ${boundMs} ms`
    }
  }
}

function* deadLettersJustified(evidence: Evidence): Iterable<string> {
  const { ledger, planByBinding, attemptsOf } = evidence
  for (const row of ledger.deliveries.values()) {
    if (row.state !== 'dead_lettered') continue
    const plan = planByBinding.get(row.bindingId)
    const last = attemptsOf.get(row.id)?.at(-1)?.outcome
    const withheld = row.deadLetterReason === 'later_session' && plan !== undefined
    if (withheld && mayBeWithheld(evidence, row, plan.binding)) continue
    if (plan === undefined || !isJustified(row, plan, last)) {
      yield `${describe(row)} is dead for ${row.deadLetterReason}, after ${JSON.stringify(last)}`
    }
  }
}

function* attemptsRecorded({ ledger, attemptsOf }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    const recorded = attemptsOf.get(row.id)?.length ?? 0
    if (recorded !== row.attempts) yield `${describe(row)} has ${row.attempts} attempts, ${recorded} recorded`
  }
}

function isJustified(
  row: MemoryDelivery,
  { binding, removedMs, phases }: RelyingPartyPlan,
  last: MemoryAttempt['outcome'] | undefined,
): boolean {
  const { retry, names } = binding
  switch (row.deadLetterReason) {
    case 'attempts_exhausted':
      return last?.kind === 'unavailable' && row.retries === retry.scheduleMs.length
    case 'refused':
    case 'misconfigured':
      return last?.kind === row.deadLetterReason && row.refusals === retry.refusedScheduleMs.length
    case 'endpoint_gone':
      return last?.kind === 'misconfigured' && last.status === 410
    case 'binding_disabled':
      return phases.some(({ behaviour }) => behaviour.kind === 'answers' && behaviour.status === 410)
    case 'sid_required':
      return names === 'session' && row.delivery.sid === null
    case 'widen_required':
      return names === 'subject' && !binding.widens
    case 'client_removed':
      return removedMs !== null
    case 'unreachable':
      return (row.settledAt?.getTime() ?? 0) - row.plannedAt.getTime() >= 3_600_000
    default:
      return false
  }
}

function* supersessionsCovered({ ledger }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    if (row.supersededBy === null) continue
    const newer = ledger.deliveries.get(row.supersededBy)
    const same = newer?.bindingId === row.bindingId && newer.id !== row.id
    // A delivery of the subject that would end a later session is superseded by those of the older ones.
    const narrowed =
      row.delivery.sid === null && newer?.delivery.sid !== null && newer?.eventId === row.eventId
    const covers = same && (newer.target === row.target || narrowed)
    if (!covers) yield `${describe(row)} is covered by ${row.supersededBy}, which is not about the same`
    if (lastOf(row, ledger.deliveries).state === 'superseded') yield `${describe(row)} is covered in a circle`
  }
}

function* breakersClosed({ received, breakersOpen }: Evidence): Iterable<string> {
  for (const [process, open] of breakersOpen) {
    const ended = received
      .filter((one) => one.process === process && one.endedMs !== null)
      .toSorted((a, b) => (a.endedMs ?? 0) - (b.endedMs ?? 0))
    const last = new Map(ended.map(({ bindingId, status }) => [bindingId, status]))
    const down = [...last.values()].filter((status) => status === null || status >= 429 || status === 408)
    if (open > down.length) {
      yield `process ${process} takes ${open} for down, and ${down.length} were when it last asked`
    }
  }
}

function* quarantineRight({ memoryLog, scenario }: Evidence): Iterable<string> {
  const others = memoryLog.quarantined.filter(({ record }) => record.key !== 'poison')
  for (const { record, reason } of others) yield `${record.headers.ce_id} is in quarantine: ${reason}`
  const calm = scenario.calm && memoryLog.quarantined.length !== scenario.poisonMs.length
  if (calm)
    yield `${memoryLog.quarantined.length} records, of ${scenario.poisonMs.length} that nobody can read`
}
