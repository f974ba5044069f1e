import { decodeLogoutEvent } from '@curfew/client'
import {
  type BatchHandler,
  type BindingId,
  type ConsumedRecord,
  type Digest,
  type EventId,
  type KnownSessions,
  LedgerUnavailableError,
  type LiveSession,
  type LogoutEvent,
  plan,
  type Quarantined,
  sameContent,
} from '@curfew/domain'
import type { DeliveryLedger, PlannedEvent, Registry, SessionQuestion } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Announcer } from './announcer.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { RegistryCache } from './registry-cache.ts'
import type { Worker } from './worker.ts'

export interface IntakeDeps {
  readonly ledger: Pick<DeliveryLedger, 'findSessions' | 'planEvents'>
  readonly log: Log
  readonly registry: RegistryCache
  readonly worker: Worker
  readonly announcer: Pick<Announcer, 'announce'>
  readonly dispatcher: Pick<Dispatcher, 'room' | 'free' | 'accept'>
  /** Resolves when the next batch may be planned. Never waits for an RP. */
  readonly admit: () => Promise<void>
  /** Told how many deliveries were planned. */
  readonly onPlanned: (deliveries: number) => void
  /** The faults of a value that should be an `AcceptedLogoutEvent`. */
  readonly check: (value: unknown) => readonly { readonly pointer: string; readonly detail: string }[]
  /** SHA-256, in hexadecimal. */
  readonly digest: Digest
  readonly now: () => Date
}

const SILENT: KnownSessions = { kind: 'silent' }
const SPEAKS: KnownSessions = { kind: 'known', sessions: [] }
const AWAY: KnownSessions = { kind: 'away' }

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
 * Turns log records into the ledger's plan: events and the deliveries they owe in one transaction for the whole batch.
 * What this worker has room for is born leased to it and attempted at once; the rest is born pending.
 */
export function createIntake(deps: IntakeDeps): BatchHandler {
  const { ledger, log, registry, worker, dispatcher, digest, now } = deps

  async function write(batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
    // Whether our copy of the registry was read after the batch came. Then it has everybody who was registered before, and goes
    // on to serve: changes that follow one another faster than it is read would hold up every logout.
    let readSince = false
    for (;;) {
      const known = registry.current()
      const planned = planBatch(batch, known, await sessionsOf(batch, known))
      const workerId = worker.id()
      const result = await ledger.planEvents({
        batch: planned,
        workerId,
        registryRevision: readSince ? null : known.revision,
        now: now(),
      })
      if (!result.ok) {
        if (result.why === 'worker_lost') await worker.register()
        else {
          await registry.refresh()
          readSince = true
        }
        continue
      }
      for (const { event, deliveries } of planned) {
        if (!result.planned.has(event.id)) continue
        for (const { delivery, leased } of deliveries) if (leased) dispatcher.accept(delivery, workerId)
      }
      // What is owed to nobody is settled by being planned.
      const owedToNobody = planned.filter(
        ({ event, deliveries }) => deliveries.length === 0 && result.planned.has(event.id),
      )
      deps.announcer.announce(owedToNobody.map(({ event }) => event.id))
      deps.onPlanned(planned.reduce((sum, { deliveries }) => sum + deliveries.length, 0))
      return batch
        .filter(({ event }) => result.conflicts.has(event.id))
        .map(({ event, record }) => {
          const reason = conflict(event)
          log.error({ event: 'event.quarantined', position: record.position, reason })
          return { record, reason }
        })
    }
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

  function planBatch(
    batch: readonly Incoming[],
    known: Registry,
    sessionsOf: (event: LogoutEvent) => KnownSessions,
  ): readonly PlannedEvent[] {
    const room = new Map<BindingId, number>()
    let { free } = dispatcher
    return batch.map(({ event, digest: content, record }) => {
      const issuer = known.issuers.get(event.iss) ?? null
      const { basis, deliveries } = plan(event, issuer, sessionsOf(event), digest)
      return {
        event,
        digest: content,
        basis,
        traceparent: record.headers.traceparent ?? null,
        deliveries: deliveries.map(({ delivery, target }) => {
          const left = room.get(delivery.bindingId) ?? dispatcher.room(delivery.bindingId, event.lane)
          const leased = left > 0 && free > 0
          room.set(delivery.bindingId, left - 1)
          if (leased) free -= 1
          return { delivery, target, leased }
        }),
      }
    })
  }

  /** The batch as a whole, or, when PostgreSQL refuses something in it, each event by itself: one that cannot be written must not hold up the rest. */
  async function writeAround(batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
    try {
      return await write(batch)
    } catch (error) {
      if (isTimeout(error) && batch.length > 1) {
        // More is owed than one statement can write in its time: again and again it would hold up all that follows.
        const half = Math.ceil(batch.length / 2)
        log.warn({ event: 'intake.halved', events: batch.length, err: error })
        return [...(await writeAround(batch.slice(0, half))), ...(await writeAround(batch.slice(half)))]
      }
      if (error instanceof LedgerUnavailableError || !isDataFault(error)) {
        // It may have been carried out: the batch comes again, and is then known, but nobody holds its leases.
        worker.doubt()
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
        return [{ record: only.record, reason: `the ledger refused it: ${error.message}` }]
      }
      const quarantined: Quarantined[] = []
      for (const incoming of batch) quarantined.push(...(await writeAround([incoming])))
      return quarantined
    }
  }

  return async (records) => {
    const { events, quarantined } = read(records, deps)
    for (const { record, reason } of quarantined) {
      log.error({ event: 'event.quarantined', position: record.position, reason })
    }
    if (events.length === 0) return quarantined
    await deps.admit()
    return [...quarantined, ...(await writeAround(events))]
  }
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
      quarantined.push({ record, reason: event.unreadable })
      continue
    }
    const content = digest(sameContent(event))
    const earlier = events.get(event.id)
    if (earlier === undefined) events.set(event.id, { event, digest: content, record })
    else if (earlier.digest !== content) quarantined.push({ record, reason: conflict(event) })
  }
  return { events: [...events.values()], quarantined }
}

function conflict({ iss, givenId }: LogoutEvent): string {
  return `event ${givenId} of ${iss} is known with another content`
}

/** Any SQLSTATE: PostgreSQL is there, and cannot answer this. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^[0-9A-Z]{5}$/.test(String(error.code))
}

/** PostgreSQL gave the statement up, and undid it. */
function isTimeout(error: unknown): boolean {
  return (
    error instanceof LedgerUnavailableError &&
    error.cause instanceof Error &&
    'code' in error.cause &&
    error.cause.code === '57014'
  )
}

/** SQLSTATE classes 22 (data exception) and 23 (constraint violation): this row will never be taken. */
export function isDataFault(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && /^2[23]/.test(String(error.code))
}
