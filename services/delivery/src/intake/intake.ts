import { decodeLogoutEvent } from '@curfew/contract'
import {
  type BatchHandler,
  type BindingId,
  type ConsumedRecord,
  type Digest,
  type EventId,
  type Issuer,
  type KnownSessions,
  LedgerUnavailableError,
  type LiveSession,
  type LogoutEvent,
  type PlanBasis,
  plan,
  type Quarantined,
  sameContent,
} from '@curfew/domain'
import {
  type DeliveryLedger,
  isDataFault,
  isRefusal,
  isStatementTimeout,
  type KnownIssuer,
  type Lease,
  type PlannedEvent,
  type Registry,
  type SessionQuestion,
} from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import { breathe } from '../dispatch/breathe.ts'
import type { Dispatcher } from '../dispatch/dispatcher.ts'
import type { Announcer } from '../settle/announcer.ts'
import type { Worker } from '../worker/worker.ts'
import { issuersOf, type Part, PLAN_DELIVERIES, partsOf } from './parts.ts'
import { createPlanTurns } from './plan-turns.ts'
import type { RegistryCache } from './registry-cache.ts'

export interface IntakeDeps {
  readonly ledger: Pick<DeliveryLedger, 'findSessions' | 'planEvents'>
  readonly log: Log
  readonly registry: RegistryCache
  readonly worker: Worker
  readonly announcer: Pick<Announcer, 'announce'>
  readonly dispatcher: Pick<Dispatcher, 'room' | 'free' | 'freeOf' | 'acceptAll' | 'isUnavailable'>
  /** Resolves when events of these issuers may be planned. Never waits for an RP. */
  readonly admit: (issuers: ReadonlySet<Issuer>) => Promise<void>
  /** Told how many deliveries were planned. */
  readonly onPlanned: (deliveries: number) => void
  /** Told how many events were planned whose issuer is not registered, so that no delivery is owed. */
  readonly onUnknownIssuer: (events: number) => void
  /** The faults of a value that should be an `AcceptedLogoutEvent`. */
  readonly check: (value: unknown) => readonly { readonly pointer: string; readonly detail: string }[]
  /** SHA-256, in hexadecimal. */
  readonly digest: Digest
  readonly now: () => Date
}

const SILENT: KnownSessions = { kind: 'silent' }
const SPEAKS: KnownSessions = { kind: 'known', sessions: [] }
const AWAY: KnownSessions = { kind: 'away' }

/** Issuers that a log line names, of all that it counts. */
const ISSUERS_IN_LOG = 5

/** Sessions by the event that is about them. */
type Found = ReadonlyMap<EventId, readonly LiveSession[]>
const NOTHING: Found = new Map()

/** One event of a batch, and the record it came in. */
interface Incoming {
  readonly event: LogoutEvent
  readonly digest: string
  readonly record: ConsumedRecord
}

/**
 * Turns log records of one lane into the ledger's plan: events and the deliveries they owe in one transaction for the whole
 * batch. What this worker has room for is born leased to it and attempted at once; the rest is born pending.
 */
export function createIntake(deps: IntakeDeps): BatchHandler {
  const { ledger, log, registry, worker, dispatcher, digest, now } = deps
  // Of this lane alone: a large plan of the bulk lane has its turn for as long as the pace makes it wait, which may be minutes.
  const turns = createPlanTurns()

  async function write(batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
    // Whether our copy of the registry was read after the batch came. Then it has everybody who was registered before, and goes
    // on to serve: changes that follow one another faster than it is read would hold up every logout.
    let readSince = false
    for (;;) {
      const known = registry.current()
      const planned = await planBatch(batch, known, await sessionsOf(batch, known))
      const result = await worker.leasing(async (lease) => {
        const registryRevision = readSince ? null : known.revision
        const written = await ledger.planEvents({ batch: planned, lease, registryRevision, now: now() })
        if (written.ok) await take(planned, written.planned, lease)
        return written
      })
      if (!result.ok) {
        if (result.why === 'worker_lost') await worker.register()
        else {
          await registry.refresh()
          readSince = true
        }
        continue
      }
      // What is owed to nobody is settled by being planned.
      const owedToNobody = planned.filter(
        ({ event, deliveries }) => deliveries.length === 0 && result.planned.has(event.id),
      )
      deps.announcer.announce(owedToNobody.map(({ event }) => event.id))
      noteUnknownIssuers(
        planned.filter(({ event }) => result.planned.has(event.id)),
        deps,
      )
      deps.onPlanned(planned.reduce((sum, { deliveries }) => sum + deliveries.length, 0))
      return batch
        .filter(({ event }) => result.conflicts.has(event.id))
        .map(({ event, record }) => {
          const reason = conflict(event)
          log.error({ event: 'event.quarantined', position: record.position, reason })
          return { record, kind: 'conflict', reason }
        })
    }
  }

  /** Hands on what was born leased. Of an event that the ledger had before, nothing was. */
  async function take(
    batch: readonly PlannedEvent[],
    planned: ReadonlySet<EventId>,
    lease: Lease,
  ): Promise<void> {
    const leased = batch
      .filter(({ event }) => planned.has(event.id))
      .flatMap(({ deliveries }) => deliveries.filter((one) => one.leased))
    await dispatcher.acceptAll(
      leased.map(({ delivery }) => delivery),
      lease,
    )
  }

  /** What the session index knows of each event's. Nobody is asked where it knows nothing of the issuer. */
  async function sessionsOf(
    batch: readonly Incoming[],
    known: Registry,
  ): Promise<(event: LogoutEvent) => KnownSessions> {
    const indexOf = ({ iss }: LogoutEvent): number | null => {
      const issuer = known.issuers.get(iss)
      return issuer === undefined || issuer.sessionIndex === 'off' ? null : issuer.sessionIssuer
    }
    const questions = batch.flatMap(({ event }) => {
      const issuer = indexOf(event)
      // Whom a logout of everyone is about is asked page by page, by the bookkeeper.
      return issuer === null || event.scope === 'issuer' ? [] : [{ event, issuer }]
    })
    const found = questions.length === 0 ? NOTHING : await ask(questions)
    return (event) => {
      if (indexOf(event) === null) return SILENT
      if (event.scope === 'issuer') return SPEAKS
      if (found === null) return AWAY
      const sessions = found.get(event.id)
      return sessions === undefined ? SILENT : { kind: 'known', sessions }
    }
  }

  /** The sessions of each event's; null where the index does not answer. */
  async function ask(questions: readonly SessionQuestion[]): Promise<Found | null> {
    try {
      return await ledger.findSessions(questions)
    } catch (error) {
      if (!(error instanceof LedgerUnavailableError) && !isRefusal(error)) throw error
      log.warn({ event: 'session-index.away', events: questions.length, err: error })
      return null
    }
  }

  async function planBatch(
    batch: readonly Incoming[],
    known: Registry,
    sessionsOf: (event: LogoutEvent) => KnownSessions,
  ): Promise<readonly PlannedEvent[]> {
    const lease = createLeases(dispatcher)
    const planned: PlannedEvent[] = []
    let sinceBreath = 0
    for (const { event, digest: content, record } of batch) {
      const deliveries: PlannedEvent['deliveries'][number][] = []
      let basis: PlanBasis = 'unknown_issuer'
      for (const issuer of slicesOf(known.issuers.get(event.iss) ?? null)) {
        const owed = plan(event, issuer, sessionsOf(event), digest, dispatcher.isUnavailable)
        basis = owed.basis
        for (const { delivery, target, doubtful } of owed.deliveries) {
          // What is in doubt is looked at when it is claimed.
          const leased = doubtful !== true && lease(delivery.bindingId, event)
          deliveries.push({ delivery, target, leased })
        }
        sinceBreath += owed.deliveries.length
        if (sinceBreath < SLICE) continue
        sinceBreath = 0
        await breathe()
      }
      const traceparent = record.headers.traceparent ?? null
      planned.push({ event, digest: content, basis, traceparent, deliveries })
    }
    return planned
  }

  /** The batch as a whole, or, when PostgreSQL refuses something in it, each event by itself: one that cannot be written must not hold up the rest. */
  async function writeAround(batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
    try {
      return await write(batch)
    } catch (error) {
      if (isStatementTimeout(error) && batch.length > 1) {
        // More is owed than one statement can write in its time: again and again it would hold up all that follows.
        const half = Math.ceil(batch.length / 2)
        log.warn({ event: 'intake.halved', events: batch.length, err: error })
        return [...(await writeAround(batch.slice(0, half))), ...(await writeAround(batch.slice(half)))]
      }
      if (error instanceof LedgerUnavailableError || !isDataFault(error)) {
        // It may have been carried out: the batch comes again, and is then known. The worker finds what was leased for it.
        throw error
      }
      const [only, ...others] = batch
      if (only !== undefined && others.length === 0) {
        log.error({
          event: 'event.quarantined',
          event_id: only.event.givenId,
          iss: only.event.iss,
          err: error,
        })
        return [{ record: only.record, kind: 'refused', reason: `the ledger refused it: ${error.message}` }]
      }
      const quarantined: Quarantined[] = []
      for (const incoming of batch) quarantined.push(...(await writeAround([incoming])))
      return quarantined
    }
  }

  async function writePart({ events }: Part<Incoming>): Promise<readonly Quarantined[]> {
    await deps.admit(issuersOf(events))
    return writeAround(events)
  }

  return async (records, slow) => {
    const { events, quarantined } = read(records, deps)
    for (const { record, reason } of quarantined) {
      log.error({ event: 'event.quarantined', position: record.position, reason })
    }
    const refused = [...quarantined]
    for (const [index, part] of partsOf(events, registry.current()).entries()) {
      if (index === 0 && part.size <= PLAN_DELIVERIES) {
        refused.push(...(await writePart(part)))
        continue
      }
      slow()
      refused.push(...(await turns.run(part.issuer, () => writePart(part))))
    }
    return refused
  }
}

/** Bindings that one event is planned for before all else that waits for the processor gets its turn. */
const SLICE = 100

/**
 * An issuer with a few of its bindings, then with the next few. The bindings of one relying party stand side by side in the registry
 * and stay together, for what a fallback is owed depends on the others.
 */
function* slicesOf(issuer: KnownIssuer | null): Iterable<KnownIssuer | null> {
  const bindings = issuer?.bindings ?? []
  if (issuer === null || bindings.length <= SLICE) return yield issuer
  for (let from = 0; from < bindings.length; ) {
    let to = Math.min(from + SLICE, bindings.length)
    while (to < bindings.length && bindings[to]?.clientId === bindings[to - 1]?.clientId) to += 1
    yield { ...issuer, bindings: bindings.slice(from, to) }
    from = to
  }
}

/** Says of each delivery of a statement whether it is born leased: as long as there is room for its binding, its issuer and at all. */
function createLeases(
  dispatcher: IntakeDeps['dispatcher'],
): (bindingId: BindingId, event: LogoutEvent) => boolean {
  const room = new Map<BindingId, number>()
  const freeOf = new Map<Issuer, number>()
  let { free } = dispatcher
  return (bindingId, { iss, lane }) => {
    const left = room.get(bindingId) ?? dispatcher.room(bindingId, lane, iss)
    const ofIssuer = freeOf.get(iss) ?? dispatcher.freeOf(iss)
    const leased = left > 0 && ofIssuer > 0 && free > 0
    room.set(bindingId, left - 1)
    freeOf.set(iss, leased ? ofIssuer - 1 : ofIssuer)
    if (leased) free -= 1
    return leased
  }
}

/** Says which events came to nothing because no issuer has their `iss`: a registration is missing, or has a slip in it. */
function noteUnknownIssuers(
  planned: readonly PlannedEvent[],
  { log, onUnknownIssuer }: Pick<IntakeDeps, 'log' | 'onUnknownIssuer'>,
): void {
  const unknown = planned.filter(({ basis }) => basis === 'unknown_issuer')
  if (unknown.length === 0) return
  const issuers = [...new Set(unknown.map(({ event }) => event.iss))].slice(0, ISSUERS_IN_LOG)
  log.warn({ event: 'events.unknown-issuer', events: unknown.length, issuers })
  onUnknownIssuer(unknown.length)
}

/** Reads a batch: each event once, however often it came, and apart what cannot be read. */
function read(
  records: readonly ConsumedRecord[],
  { check, digest }: Pick<IntakeDeps, 'check' | 'digest'>,
): { readonly events: readonly Incoming[]; readonly quarantined: readonly Quarantined[] } {
  const events = new Map<EventId, Incoming>()
  const quarantined: Quarantined[] = []
  for (const record of records) {
    const event = decodeLogoutEvent(record, check, digest)
    if ('unreadable' in event) {
      quarantined.push({ record, kind: 'unreadable', reason: event.unreadable })
      continue
    }
    const content = digest(sameContent(event))
    const earlier = events.get(event.id)
    if (earlier === undefined) events.set(event.id, { event, digest: content, record })
    else if (earlier.digest !== content)
      quarantined.push({ record, kind: 'conflict', reason: conflict(event) })
  }
  return { events: [...events.values()], quarantined }
}

function conflict({ iss, givenId }: LogoutEvent): string {
  return `event ${givenId} of ${iss} is known with another content`
}
