import { beganAfter, QUICK_RETRIES_MS } from '@curfew/domain'
import { lastOf, type MemoryAttempt, type MemoryDelivery } from '../support/memory-rows.ts'
import { describe, type Evidence, type Invariant, isPrivate, owedFor, userOf } from './evidence.ts'
import { FALLBACK_INVARIANTS } from './fallback-invariants.ts'
import { FEED_INVARIANTS } from './feed-invariants.ts'
import { limitViolations } from './limits.ts'
import type { Run } from './run.ts'
import type { RelyingPartyPlan } from './scenario.ts'
import {
  mayBeLeftOut,
  mayBeWithheld,
  maySubBeUnknown,
  SESSION_INVARIANTS,
  standsForIssuer,
} from './session-invariants.ts'
import { EPOCH_MS } from './virtual-time.ts'

// The invariants of every run. An invariant yields a line for every violation. It compares what the IdP was answered, what
// relying parties received and answered, and what the ledger contains.

const INVARIANTS: Readonly<Record<string, Invariant>> = {
  'every accepted event is settled': eventsSettled,
  'at every instant every accepted logout is settled, due or leased': ({ unaccounted }) => unaccounted,
  'every RP that is owed a delivery gets it, or there is a dead letter': owedNotified,
  'no other RP gets a delivery': noOtherNotified,
  'no RP gets a sub by which it does not know the user': subjectsKept,
  ...SESSION_INVARIANTS,
  ...FALLBACK_INVARIANTS,
  ...FEED_INVARIANTS,
  'attempts are within limits': attemptsWithinLimits,
  'no delivery is acknowledged without the RP': acknowledgementsReal,
  'no RP delays another': noneDelayed,
  'a dead letter is justified': deadLettersJustified,
  'every attempt is recorded': attemptsRecorded,
  'a superseded delivery is covered by a newer one': supersessionsJustified,
  'a breaker closes when its RP recovers': breakersClosed,
  'exactly the unreadable records are quarantined': quarantineRight,
  'no worker decides by its own clock': clocksIgnored,
  'processes end at the signal to stop, without an error': ({ faults }) => faults,
}

/** All violations in words, prefixed with the name of their invariant. Empty if there is none. */
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
    if (row.settledAt === null) yield `${describe(row)} was not settled within ${scenario.boundMs} ms`
  }
  const left = memoryLog.depth('interactive') + memoryLog.depth('bulk')
  if (left > 0) yield `${left} records are left in the event log`
  if (accepted.size < scenario.posts.length) yield 'some posts were not accepted'
  if (!finished) yield 'the run did not end in time'
}

/** A call may be delayed by at most eight seconds, and so may both ways of the heartbeat that set the clock. */
const SLOW_MS_MAX = 20_000

function* clocksIgnored({ ledger: { skewMs } }: Evidence): Iterable<string> {
  if (skewMs > SLOW_MS_MAX) yield `a worker decided by a time that differs from the ledger's by ${skewMs} ms`
}

function* owedNotified(evidence: Evidence): Iterable<string> {
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
        if (last.deadLetterReason === 'later_session' || last.deadLetterReason === 'sub_required') continue
        if (last.state === 'lapsed' && last.delivery.sessionEndsAt !== null) continue
        const notified = received.some(
          ({ bindingId, eventId, status }) =>
            bindingId === binding.id && eventId === last.eventId && (status === 200 || status === 204),
        )
        if (!notified && last.state !== 'dead_lettered') yield `${describe(last)}: the RP was never notified`
        // The RP always answers, so nothing excuses a dead letter.
        if (steady && !notified) yield `${describe(last)}: the RP was always available but was not notified`
      }
    }
  }
}

function* noOtherNotified(evidence: Evidence): Iterable<string> {
  const { scenario, received, planByBinding, ledger } = evidence
  const posts = new Map(scenario.posts.map((post) => [post.event.id, post]))
  for (const { bindingId, claims, eventId, atMs } of received) {
    const post = posts.get(eventId)
    const plan = planByBinding.get(bindingId)
    // The fallback of a binding for the issuer's sessions gets what that one got.
    const always = plan !== undefined && standsForIssuer(evidence, plan.binding)
    if (post === undefined || plan === undefined || !owedFor(post, { ...plan.binding, always })) {
      yield `binding ${bindingId} was notified of event ${claims.txn} at ${atMs} ms, but was owed no delivery`
      continue
    }
    const { event } = post
    if (claims.aud !== plan.binding.clientId) yield `${claims.jti} has the wrong audience ${claims.aud}`
    const wrongSub = claims.sub !== undefined && userOf({ sub: claims.sub, sid: null }) !== userOf(event)
    const own = ledger.sessionRows.some(
      ({ session }) =>
        session.sid === claims.sid &&
        userOf(session) === userOf(event) &&
        (always || session.clientId === plan.binding.clientId) &&
        !beganAfter(session, event),
    )
    if (wrongSub || (claims.sid !== undefined && claims.sid !== event.sid && !own)) {
      yield `${claims.jti} logs out ${claims.sub} ${claims.sid}, but the event names ${event.sub} ${event.sid}`
    }
  }
}

function* subjectsKept({ scenario: { pairwise }, received, planByBinding }: Evidence): Iterable<string> {
  for (const { bindingId, claims, atMs } of received) {
    const clientId = planByBinding.get(bindingId)?.binding.clientId
    if (clientId === undefined || claims.sub === undefined) continue
    const isOwn = pairwise.has(clientId) ? claims.sub.endsWith(`@${clientId}`) : !isPrivate(claims.sub)
    if (!isOwn) yield `${clientId} was sent ${claims.sub} at ${atMs} ms`
  }
}

function* attemptsWithinLimits(evidence: Evidence): Iterable<string> {
  const { ledger, planByBinding, attemptsOf, byJti, scenario } = evidence
  for (const [jti, posts] of byJti) {
    if (posts.length > 1) yield `token ${jti} was sent ${posts.length} times`
  }
  for (const row of ledger.deliveries.values()) {
    const plan = planByBinding.get(row.bindingId)
    // A removed binding has the default retry policy for its open deliveries.
    if (plan === undefined || plan.removedMs !== null) continue
    const { scheduleMs, refusedScheduleMs } = plan.binding.retry
    const attempts = attemptsOf.get(row.id) ?? []
    const each = 1 + QUICK_RETRIES_MS.length + scheduleMs.length + refusedScheduleMs.length
    const most = each * (1 + row.generation)
    const numbers = attempts.map(({ number }) => number)
    if (numbers.length > most)
      yield `${describe(row)}: ${numbers.length} attempts, but at most ${most} are allowed`
    if (numbers.some((number, index) => number !== index + 1) || numbers.length !== row.attempts)
      yield `${describe(row)}: its attempts are numbered ${numbers.join()}`
    if (row.retries > scheduleMs.length) yield `${describe(row)}: ${row.retries} retries`
    if (row.refusals > refusedScheduleMs.length) yield `${describe(row)}: ${row.refusals} refusals`
  }
  // If no process crashes, every sent token is recorded.
  if (!scenario.calm) return
  const recorded = new Set(ledger.attempts.map(({ jti }) => jti))
  for (const jti of byJti.keys()) if (!recorded.has(jti)) yield `token ${jti} was sent but is not recorded`
  yield* limitViolations(evidence)
}

function* acknowledgementsReal({ ledger, attemptsOf, byJti }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    if (row.offerMs !== null) continue
    for (const { outcome, jti, number } of attemptsOf.get(row.id) ?? []) {
      if (outcome.kind !== 'acknowledged') continue
      const [answered] = byJti.get(jti ?? '') ?? []
      const real =
        answered?.bindingId === row.bindingId &&
        answered.eventId === row.eventId &&
        (answered.status === 200 || answered.status === 204)
      if (!real)
        yield `${describe(row)}: attempt ${number} is recorded as acknowledged, but no RP acknowledged it`
    }
    const last = attemptsOf.get(row.id)?.at(-1)
    if ((row.state === 'acknowledged') !== (last?.outcome.kind === 'acknowledged')) {
      yield `${describe(row)}: the outcome of its last attempt is ${last?.outcome.kind}`
    }
  }
}

/** In a calm run, the longest delay of the first POST to an available RP, whatever other RPs do, in milliseconds. */
const DELAY_MS = { interactive: 500, bulk: 1_500 }
/** How long a widened delivery waits for the own token of its client, in milliseconds. */
const WIDENED_MS = 2_000
/**
 * In any run, the longest delay after the quiet time begins. By then old leases have expired and their deliveries have continued.
 */
const recoveryMs = (leaseMs: number) => 2 * leaseMs + 5_000

function* noneDelayed({ scenario, ledger, received, accepted, planByBinding }: Evidence): Iterable<string> {
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
    // A delivery without a sub is sent once a session makes the sub known.
    if (last.deadLetterReason === 'sub_required' || last.generation > 0) continue
    // A delivery that the plan missed is owed from the time when that was found.
    const missed = row.plannedAt > (ledger.events.get(row.eventId)?.plannedAt ?? row.plannedAt)
    const acceptedMs = missed
      ? row.plannedAt.getTime() - EPOCH_MS
      : (accepted.get(row.eventId)?.acceptedMs ?? 0)
    const firstMs = first.get(`${last.eventId} ${last.bindingId}`) ?? Number.POSITIVE_INFINITY
    const relayed = ledger.events.get(row.eventId)?.event.relayed
    const waits =
      relayed !== undefined && relayed.clientId !== planByBinding.get(row.bindingId)?.binding.clientId
    const boundMs = calm
      ? acceptedMs + DELAY_MS[row.lane] + (waits ? WIDENED_MS : 0)
      : Math.max(acceptedMs, quietMs) + recoveryMs(leaseMs)
    if (firstMs > boundMs) {
      yield `${describe(row)}: accepted at ${acceptedMs} ms, but its RP, which was available, was first notified at ${firstMs} ms, after the limit of ${boundMs} ms`
    }
  }
}

function* deadLettersJustified(evidence: Evidence): Iterable<string> {
  const { ledger, planByBinding, attemptsOf } = evidence
  for (const row of ledger.deliveries.values()) {
    if (row.state !== 'dead_lettered' || row.offerMs !== null) continue
    const plan = planByBinding.get(row.bindingId)
    const last = attemptsOf.get(row.id)?.at(-1)?.outcome
    const withheld = row.deadLetterReason === 'later_session' && plan !== undefined
    if (withheld && mayBeWithheld(evidence, row, plan.binding)) continue
    const subless = row.deadLetterReason === 'sub_required' && plan !== undefined
    if (subless && maySubBeUnknown(evidence, row, plan.binding)) continue
    if (plan === undefined || !isJustified(row, plan, last)) {
      yield `${describe(row)} is a dead letter for ${row.deadLetterReason}, after ${JSON.stringify(last)}`
    }
  }
}

function* attemptsRecorded({ ledger, attemptsOf }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    const recorded = attemptsOf.get(row.id)?.length ?? 0
    if (recorded !== row.attempts)
      yield `${describe(row)} has ${row.attempts} attempts, but ${recorded} are recorded`
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

function* supersessionsJustified({ ledger }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    if (row.supersededBy === null) continue
    const newer = ledger.deliveries.get(row.supersededBy)
    const same = newer?.bindingId === row.bindingId && newer.id !== row.id
    // A delivery of the subject that would end a later session is superseded by deliveries of the earlier sessions.
    const narrowed =
      row.delivery.sid === null && newer?.delivery.sid !== null && newer?.eventId === row.eventId
    // Deliveries of one session may name it by other claims if they come by different ways.
    const sameSession = row.delivery.sid !== null && newer?.delivery.sid === row.delivery.sid
    const byAnotherWay = sameSession && wayOf(ledger, row) !== wayOf(ledger, newer)
    const covers = same && (newer.target === row.target || narrowed || byAnotherWay)
    if (!covers) yield `${describe(row)} is superseded by ${row.supersededBy}, which has another target`
    // A plan has the time at which it was made, and the ledger may get it later.
    const wasOver =
      newer?.state === 'acknowledged' && Number(newer.settledAt) <= Number(row.settledAt) + SLOW_MS_MAX
    if (row.lane === 'interactive' && newer?.lane === 'bulk' && !wasOver)
      yield `${describe(row)} is interactive and is superseded by ${row.supersededBy}, which is bulk`
    if (lastOf(row, ledger.deliveries).state === 'superseded')
      yield `${describe(row)} is superseded in a circle`
  }
}

/** The client that the token of a delivery's event was relayed for; null if the event was posted. */
function wayOf(ledger: Evidence['ledger'], { eventId }: MemoryDelivery): string | null {
  return ledger.events.get(eventId)?.event.relayed?.clientId ?? null
}

function* breakersClosed({ received, breakersOpen }: Evidence): Iterable<string> {
  for (const [process, open] of breakersOpen) {
    const ended = received
      .filter((one) => one.process === process && one.endedMs !== null)
      .toSorted((a, b) => (a.endedMs ?? 0) - (b.endedMs ?? 0))
    const last = new Map(ended.map(({ bindingId, status }) => [bindingId, status]))
    const failed = [...last.values()].filter((status) => status === null || status >= 429 || status === 408)
    if (open > failed.length) {
      yield `process ${process} has ${open} open breakers, but ${failed.length} RPs failed its last attempt`
    }
  }
}

function* quarantineRight({ memoryLog, scenario }: Evidence): Iterable<string> {
  const others = memoryLog.quarantined.filter(({ record }) => record.key !== 'poison')
  for (const { record, reason } of others) yield `${record.headers.ce_id} is quarantined: ${reason}`
  const calm = scenario.calm && memoryLog.quarantined.length !== scenario.poisonMs.length
  if (calm)
    yield `${memoryLog.quarantined.length} records are quarantined, but ${scenario.poisonMs.length} are unreadable`
}
