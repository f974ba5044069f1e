import { hash } from 'node:crypto'
import {
  type Binding,
  type BindingId,
  type ClientId,
  DEFAULT_RELAY,
  type DeadLetterReason,
  type DeliveryId,
  type EventId,
  type EventKey,
  eventKeyOf,
  type InFlightDelivery,
  type Issuer,
  type Level,
  type LogoutEvent,
  narrowingOf,
  type OwedDelivery,
  occurrenceOf,
  type PairwiseClients,
  type PlanBasis,
  REASONS_OF_REMOVAL,
  requestedAtOf,
  type Session,
  type SessionChanges,
  type SessionIndexUse,
  successionOf,
  type WorkerId,
} from '@curfew/domain'
import type {
  AttemptRecord,
  ClaimRequest,
  DeliveryLedger,
  Lease,
  PlanRequest,
  PlanResult,
  Settled,
} from '@curfew/ledger'
import {
  beforeInTurn,
  bornRow,
  byDue,
  byPlanning,
  checkRow,
  lastOf,
  type MemoryAttempt,
  MemoryConstraintError,
  type MemoryDelivery,
  settledAs,
} from './memory-rows.ts'
import { createMemorySessionIndex, type JournalLine, type MemorySession } from './memory-session-index.ts'

/** The ledger in memory, with more access for tests than its port gives. */
export interface MemoryLedger extends DeliveryLedger {
  readonly events: ReadonlyMap<
    EventId,
    {
      readonly event: LogoutEvent
      readonly digest: string
      readonly basis: PlanBasis
      readonly traceparent: string | null
      readonly plannedAt: Date
      /** By the database's clock. `plannedAt` is the worker's estimate of it. */
      readonly writtenAt: Date
    }
  >
  readonly deliveries: ReadonlyMap<DeliveryId, MemoryDelivery>
  readonly attempts: readonly MemoryAttempt[]
  /** The claimed deliveries and the times of the claims, including deliveries that the claim itself settled. */
  readonly claims: readonly { readonly id: DeliveryId; readonly at: Date }[]
  /** The events for which a settled delivery was announced, in order. */
  readonly announced: readonly EventKey[]
  /** The open breakers: the binding, and the worker that reported it. */
  readonly breakers: readonly { readonly bindingId: BindingId; readonly workerId: WorkerId }[]
  /** Deliveries that are neither pending nor in flight. */
  readonly settled: number
  /** The rows of the leases. A delivery in flight is found again only through them. */
  readonly leases: readonly MemoryLease[]
  /** The largest difference between the ledger's clock and a worker's time of a plan, claim or settlement, in milliseconds. */
  readonly skewMs: number
  /** All sessions that the index ever had. */
  readonly sessionRows: readonly MemorySession[]
  /** Registers an issuer without relying parties. */
  putIssuer(iss: Issuer, sessionIndex?: SessionIndexUse): void
  /** Adds a session to the index, as the consumer of the sessions lane does. */
  startSession(session: Session): void
  /** Projects the journal since the last call onto the index, as a bookkeeper does. */
  projectSessions(): void
  /** Whether the journal has entries that are not projected yet. */
  readonly journalled: boolean
  /** Settles offered deliveries that their relying party has fetched. @returns those that were still offered. */
  acknowledgeFetched(
    ids: readonly DeliveryId[],
    how: { readonly level: Level; readonly evidence: string },
  ): readonly DeliveryId[]
  /** Ends the offers whose time is over, as a bookkeeper does. @returns their deliveries. */
  endOffers(): readonly DeliveryId[]
  /** Replays every dead letter, as an operator does. @returns their number. */
  replay(): number
  /** Sets the pairwise clients of the issuer. */
  setPairwise(clients: PairwiseClients): void
  /** Registers a binding, or replaces it. */
  putBinding(binding: Binding): void
  removeBinding(id: BindingId): void
}

const earlier = (a: Date | null, b: Date) => (a !== null && a < b ? a : b)

/** A row of `leases`. */
export interface MemoryLease {
  readonly workerId: WorkerId
  readonly number: number
  readonly leasedAt: Date
  readonly ids: readonly DeliveryId[]
}

/**
 * The semantics of the SQL, statement by statement. Each statement is atomic.
 *
 * @param now the database's clock, which all workers share.
 */
export function createMemoryLedger({ now: clock }: { now: () => Date }): MemoryLedger {
  const events = new Map<
    EventId,
    {
      event: LogoutEvent
      digest: string
      basis: PlanBasis
      traceparent: string | null
      plannedAt: Date
      writtenAt: Date
    }
  >()
  const deliveries = new Map<DeliveryId, MemoryDelivery>()
  const unsettled = new Set<MemoryDelivery>()
  const attempts: MemoryAttempt[] = []
  const announced: EventKey[] = []
  const attemptKeys = new Set<string>()
  const claims: { readonly id: DeliveryId; readonly at: Date }[] = []
  const workers = new Map<WorkerId, { readonly seenAt: Date; readonly working: boolean }>()
  let leases: readonly MemoryLease[] = []
  let breakers: MemoryLedger['breakers'] = []
  const issuers = new Map<Issuer, SessionIndexUse>()
  let pairwise: PairwiseClients | null = null
  let journal: JournalLine[] = []
  const bindings = new Map<BindingId, Binding>()
  /** Removed bindings. Their rows stay, because deliveries refer to them. */
  const removed = new Map<BindingId, Binding>()
  /** By binding, including removed ones. */
  const clientOf = new Map<BindingId, ClientId>()
  /** The parts of a planned delivery that no column keeps. */
  const bornAs = new Map<DeliveryId, { readonly postedAt: Date | null; readonly isLater: boolean }>()
  let revision = 0
  let skewMs = 0
  const noteSkew = (now: Date) => {
    skewMs = Math.max(skewMs, Math.abs(now.getTime() - clock().getTime()))
  }

  /** Changes a row like `update … set`: completely, or not at all if a CHECK of the schema refuses. */
  function change(row: MemoryDelivery, changed: Partial<MemoryDelivery>): void {
    // Every statement that settles a delivery erases its first message.
    const to = { ...changed, ...(changed.settledAt != null && { firstMessage: null }) }
    checkRow({ ...row, ...to })
    Object.assign(row, to)
    if (row.settledAt === null) unsettled.add(row)
    else {
      unsettled.delete(row)
      if (row.state === 'dead_lettered') oweSuccessors(row)
      const { eventId, bindingId, delivery } = row
      journal.push({ kind: 'settled', eventId, clientId: clientOf.get(bindingId), sid: delivery.sid })
    }
  }
  const waiting = () => [...unsettled].filter(({ state }) => state === 'pending' || state === 'offered')
  const leasedBy = (id: WorkerId) =>
    [...unsettled].filter((row) => row.state === 'in_flight' && row.leasedBy === id)
  /** Gives deliveries of lost leases back. As in the SQL, only deliveries listed in a lease are found. */
  const giveBack = (
    lost: readonly MemoryLease[],
    held: readonly DeliveryId[] = [],
    keepsMessage: (workerId: WorkerId) => boolean = () => true,
  ) => {
    const dueAt = clock()
    const rows = lost.flatMap(({ workerId, leasedAt, ids }) =>
      leasedBy(workerId).filter(
        (row) =>
          ids.includes(row.id) && row.leasedAt?.getTime() === leasedAt.getTime() && !held.includes(row.id),
      ),
    )
    for (const row of rows) {
      const kept = row.leasedBy !== null && keepsMessage(row.leasedBy)
      change(row, { state: 'pending', dueAt, firstMessage: kept ? row.firstMessage : null })
    }
    return rows.length
  }
  const lease = ({ workerId, number }: Lease, rows: readonly MemoryDelivery[]) => {
    const [first] = rows
    if (first?.leasedAt == null) return
    if (leases.some((other) => other.workerId === workerId && other.number === number))
      throw new MemoryConstraintError('23505', `lease ${number} of ${workerId} exists already`)
    leases = [...leases, { workerId, number, leasedAt: first.leasedAt, ids: rows.map(({ id }) => id) }]
  }
  const supersede = (row: MemoryDelivery, by: DeliveryId, settledAt: Date) =>
    change(row, { state: 'superseded', dueAt: null, settledAt, supersededBy: by })

  const timesOf = ({ eventId }: MemoryDelivery) => {
    const event = events.get(eventId)?.event
    if (event === undefined) throw new Error(`no event ${eventId}`)
    return { event, askedMs: requestedAtOf(event).getTime(), occurredMs: occurrenceOf(event).getTime() }
  }
  /** Whether the newer delivery's event ends all sessions that the older one's ends. Both concern one subject. */
  const endsAllOf = (newer: MemoryDelivery, older: MemoryDelivery) => {
    const [a, b] = [timesOf(newer), timesOf(older)]
    if (a.askedMs < b.askedMs || a.occurredMs < b.occurredMs) return false
    if (a.event.occurredAt !== null && b.event.occurredAt === null) return false
    if (a.event.scope !== 'device') return true
    return b.event.scope === 'device' && b.event.device === a.event.device
  }
  /** Whether the newer delivery may supersede an older one of the same target. */
  const maySupersede = (newer: MemoryDelivery, older: MemoryDelivery) =>
    (older.lane === 'bulk' || newer.lane === 'interactive') &&
    (newer.delivery.sid !== null || endsAllOf(newer, older))
  /** The order of deliveries that name a subject: by the time at which their logouts were requested. */
  const byRequest = (a: MemoryDelivery, b: MemoryDelivery) =>
    a.delivery.sid === null && b.delivery.sid === null ? timesOf(a).askedMs - timesOf(b).askedMs : 0

  function bury(dead: readonly WorkerId[], retired: WorkerId | null = null): number {
    for (const id of dead) workers.delete(id)
    breakers = breakers.filter(({ workerId }) => !dead.includes(workerId))
    const [kept, ended] = [true, false].map((alive) =>
      leases.filter(({ workerId }) => workers.has(workerId) === alive),
    ) as [MemoryLease[], MemoryLease[]]
    leases = kept
    return giveBack(ended, [], (workerId) => workerId === retired)
  }

  /** Deliveries of the same session that are owed because of another way, or were acknowledged lately. */
  function deliveredOtherwise(row: MemoryDelivery, now: Date): readonly MemoryDelivery[] {
    const { event } = timesOf(row)
    if (event.scope !== 'session') return []
    const way = event.relayed?.clientId ?? null
    const { sub } = row.delivery.event
    return [...deliveries.values()].filter((other) => {
      if (other.eventId === event.id || other.bindingId !== row.bindingId) return false
      if (other.delivery.sid !== row.delivery.sid) return false
      const named = other.delivery.event.sub
      if (sub !== null && named !== null && sub !== named) return false
      const { event: theirs, askedMs } = timesOf(other)
      const theirWay = theirs.relayed?.clientId ?? null
      const lately = askedMs > now.getTime() - 600_000
      const bySubject = theirs.sub !== null && theirs.sub === event.sub && theirWay === null && lately
      if (way === theirWay || !(theirs.sid === event.sid || bySubject)) return false
      if (other.state === 'acknowledged') return (other.settledAt ?? 0) > new Date(now.getTime() - 60_000)
      return other.state === 'pending' || other.state === 'in_flight'
    })
  }

  /** Whether an earlier delivery by another way makes a new one needless. */
  function isNeedless(row: MemoryDelivery, other: MemoryDelivery): boolean {
    const { postedAt = null, isLater } = bornAs.get(row.id) ?? { isLater: false }
    if (postedAt !== null && postedAt > timesOf(other).event.acceptedAt) return false
    if (other.state === 'acknowledged') return true
    if (other.lane === 'bulk' && (other.state === 'pending' || row.lane === 'interactive')) return false
    if (other.state === 'in_flight') return row.firstMessage === null
    if (other.firstMessage !== null && row.firstMessage === null) return true
    return isLater || row.lane === 'bulk'
  }
  const keepsSubject = (newer: MemoryDelivery, older: MemoryDelivery) =>
    older.delivery.event.sub === null || newer.delivery.event.sub === older.delivery.event.sub
  const keepsEmail = (newer: MemoryDelivery, older: MemoryDelivery) =>
    timesOf(older).event.email === undefined || timesOf(newer).event.email !== undefined

  function plan({ batch, lease: given, registryRevision, now }: PlanRequest): PlanResult {
    const { workerId } = given
    noteSkew(now)
    if (!workers.has(workerId)) return { ok: false, why: 'worker_lost' }
    if (registryRevision !== null && registryRevision !== revision)
      return { ok: false, why: 'registry_changed' }
    const fresh = batch.filter(({ event }) => !events.has(event.id))
    const owed = fresh.flatMap(({ event, deliveries: planned }) =>
      planned.map(({ leased, ...one }) => {
        bornAs.set(one.delivery.id, { postedAt: one.postedAt ?? null, isLater: one.dueAt !== undefined })
        const how = { lane: event.lane, workerId: leased ? workerId : null, now, bornAt: clock() }
        return bornRow(one, how)
      }),
    )
    // The state before the batch: deliveries that are planned together do not supersede one another.
    const before = waiting()
    for (const row of owed) {
      checkRow(row)
      if (deliveries.has(row.id))
        throw new MemoryConstraintError('23505', `delivery ${row.id} exists already`)
    }
    for (const { event, digest, basis, traceparent } of fresh) {
      events.set(event.id, { event, digest, basis, traceparent, plannedAt: now, writtenAt: clock() })
      journal.push({ kind: 'planned', eventId: event.id })
    }
    const found = new Map(owed.map((row) => [row.id, deliveredOtherwise(row, now)]))
    for (const row of owed) {
      deliveries.set(row.id, row)
      unsettled.add(row)
      const others = found.get(row.id) ?? []
      const other = others.find((one) => isNeedless(row, one))
      if (other !== undefined) {
        Object.assign(row, { leasedBy: null, leasedAt: null })
        supersede(row, other.id, now)
        continue
      }
      for (const older of before) {
        if (older.settledAt !== null || older.dueAt === null || older.bindingId !== row.bindingId) continue
        const covers = older.target === row.target && maySupersede(row, older)
        if (covers || (others.includes(older) && keepsEmail(row, older) && keepsSubject(row, older)))
          supersede(older, row.id, now)
      }
    }
    lease(
      given,
      owed.filter(({ state }) => state === 'in_flight'),
    )
    const known = batch.filter((planned) => !fresh.includes(planned))
    const conflicts = known.filter(({ event, digest }) => events.get(event.id)?.digest !== digest)
    return {
      ok: true,
      planned: new Set(fresh.map(({ event }) => event.id)),
      conflicts: new Set(conflicts.map(({ event }) => event.id)),
      needless: new Set(owed.filter(({ state }) => state === 'superseded').map(({ id }) => id)),
    }
  }

  function claim({
    lease: given,
    now,
    slots,
    otherSlots,
    limit,
    after = 0,
  }: ClaimRequest): readonly InFlightDelivery[] {
    const { workerId } = given
    noteSkew(now)
    if (!workers.has(workerId)) return []
    const due = waiting().filter(({ state, dueAt }) => state === 'pending' && dueAt !== null && dueAt <= now)
    const byQueue = Map.groupBy(due, ({ lane, bindingId }) => `${lane} ${bindingId}`)
    const queues = [...byQueue.values()].toSorted(([a], [b]) => beforeInTurn(a, b, after))
    const taken = queues
      .flatMap((rows) => {
        const [first] = rows
        if (first === undefined) return []
        const most = (slots.get(first.bindingId) ?? otherSlots)[first.lane]
        return rows.toSorted(byDue).slice(0, most)
      })
      .slice(0, limit)
    for (const row of taken)
      change(row, { state: 'in_flight', dueAt: null, leasedBy: workerId, leasedAt: clock() })
    lease(given, taken)
    return taken
      .filter((row) => !isNarrowed(row))
      .map(({ delivery, attempts: made, retries, refusals, firstMessage }) => {
        const { iss, givenId, sub, scope, lane, acceptedAt, txn } = delivery.event
        const traceparent = events.get(delivery.eventId)?.traceparent ?? null
        const { firstMessage: _, ...planned } = delivery
        return {
          ...planned,
          ...(firstMessage !== null && { firstMessage }),
          event: {
            ...{ iss, givenId, sub, scope, lane, acceptedAt, traceparent },
            ...(txn !== undefined && { txn }),
          },
          attempts: made,
          retries,
          refusals,
        }
      })
  }

  /** Settles a delivery that would end a session which its event does not concern. @returns false if it must be sent. */
  function isNarrowed(row: MemoryDelivery): boolean {
    claims.push({ id: row.id, at: clock() })
    const event = events.get(row.eventId)?.event
    const binding = bindings.get(row.bindingId) ?? removed.get(row.bindingId)
    if (row.delivery.sid !== null || event === undefined || binding === undefined) return false
    if (event.scope === 'session' || issuers.get(binding.iss) === 'off') return false
    const { sub } = row.delivery.event
    const held = sub === null ? [] : index.held(sub, binding.clientId)
    const narrowing = narrowingOf(event, binding, held, (text) => hash('sha256', text))
    if (narrowing.kind === 'sent') return false
    for (const owed of narrowing.owed) owe(owed)
    const [first] = narrowing.owed
    if (first !== undefined) supersede(row, first.delivery.id, clock())
    else change(row, { state: 'dead_lettered', deadLetterReason: 'later_session', settledAt: clock() })
    return true
  }

  /** Owes a dead letter to other channels, as the SQL does in the transaction that makes a delivery a dead letter. */
  function oweSuccessors({ eventId, bindingId, delivery, deadLetterReason }: MemoryDelivery): void {
    const event = events.get(eventId)?.event
    const own = bindings.get(bindingId) ?? removed.get(bindingId)
    if (event === undefined || own === undefined || deadLetterReason === null) return
    const isRemoval = (reason: DeadLetterReason | null) => REASONS_OF_REMOVAL.some((each) => each === reason)
    const party = [...bindings.values()]
      .filter(({ iss, clientId }) => iss === own.iss && clientId === own.clientId)
      .filter(({ id }) => id !== bindingId || isRemoval(deadLetterReason))
      .map((binding) => {
        const delivered = [...deliveries.values()]
          .filter((row) => row.eventId === eventId && row.bindingId === binding.id)
          .filter((row) => !isRemoval(row.deadLetterReason))
          .filter((row) => row.delivery.event.sub === delivery.event.sub)
          .some(({ delivery: { sid } }) => delivery.sid === null || sid === null || sid === delivery.sid)
        return { ...binding, delivered }
      })
    const dead = { ...delivery, sub: delivery.event.sub, kind: own.kind, always: own.always }
    for (const owed of successionOf(event, dead, deadLetterReason, party, (text) => hash('sha256', text))) {
      const row = deliveries.get(owed.delivery.id)
      if (row === undefined) owe(owed)
      else if (isRemoval(row.deadLetterReason)) revive(row)
    }
  }

  function revive(row: MemoryDelivery, inMs = 5_000): void {
    const dueAt = new Date(clock().getTime() + (row.offerMs ?? inMs))
    const state = row.offerMs === null ? 'pending' : 'offered'
    const fresh = { state, dueAt, retries: 0, refusals: 0, settledAt: null, level: null } as const
    change(row, { ...fresh, deadLetterReason: null, generation: row.generation + 1 })
  }

  function owe(owed: OwedDelivery): void {
    if (deliveries.has(owed.delivery.id)) return
    const { lane } = owed.delivery.event
    const now = clock()
    const born = bornRow(owed, { lane, workerId: null, now, bornAt: now })
    const row = { ...born, ...(born.state === 'pending' && { dueAt: now }) }
    deliveries.set(row.id, row)
    unsettled.add(row)
  }

  function record(
    workerId: WorkerId,
    rounds: readonly { readonly row: MemoryDelivery; readonly made: readonly AttemptRecord[] }[],
  ): void {
    const fresh = rounds.flatMap(({ row, made }) =>
      made.map((attempt): MemoryAttempt => ({ ...attempt, deliveryId: row.id, workerId })),
    )
    const keyOf = ({ deliveryId, number, startedAt }: MemoryAttempt) =>
      `${deliveryId} ${number} ${startedAt.toISOString()}`
    const keys = new Set(fresh.map(keyOf))
    const twin = fresh.find((attempt) => attemptKeys.has(keyOf(attempt)))
    if (twin !== undefined || keys.size < fresh.length)
      throw new MemoryConstraintError('23505', `an attempt of ${[...keys].join(', ')} exists already`)
    for (const key of keys) attemptKeys.add(key)
    attempts.push(...fresh)
  }

  /** Settles with the outcome. If a CHECK refuses, settles without the attempts; if that is refused too, as a dead letter. */
  function settleOne(
    { id, attempts: made, settlement, leased }: Settled,
    { workerId, now }: { workerId: WorkerId; now: Date },
  ): void {
    const row = deliveries.get(id)
    if (row === undefined) throw new Error(`no delivery ${id}`)
    const to = settledAs(row, { made: made.length, settlement, leased, now })
    try {
      checkRow({ ...row, ...to })
      try {
        record(workerId, [{ row, made }])
      } catch (error) {
        if (!(error instanceof MemoryConstraintError)) throw error
      }
      change(row, to)
    } catch (error) {
      if (!(error instanceof MemoryConstraintError)) throw error
      const dead = { state: 'dead_lettered', deadLetterReason: 'unrecordable' } as const
      change(row, { ...dead, dueAt: null, settledAt: now })
    }
  }

  const index = createMemorySessionIndex({
    now: clock,
    events,
    // Each test has a single issuer.
    sessionIndex: () => [...issuers.values()][0] ?? 'partial',
    pairwise: () => pairwise,
    bindingsOf: ({ iss, clientId }) =>
      [...bindings.values()].filter((binding) => binding.iss === iss && binding.clientId === clientId),
    deliveriesOf: ({ id, sub: eventSub }, { clientId }) =>
      [...deliveries.values()]
        .filter(({ eventId, bindingId }) => eventId === id && clientOf.get(bindingId) === clientId)
        .map((row) => {
          const { delivery, state, level, settledAt, eventId, deadLetterReason } = lastOf(row, deliveries)
          const narrowed = delivery.sid !== null || deadLetterReason === 'later_session'
          const { id: lastId, sessionEndsAt } = delivery
          const found = {
            id: lastId,
            bindingId: row.bindingId,
            sid: row.delivery.sid,
            sub: row.delivery.event.sub === eventSub ? null : row.delivery.event.sub,
            lacksSubject: row.deadLetterReason === 'sub_required',
            state,
            level,
            settledAt,
            sessionEndsAt,
            withheld: row.delivery.sid === null && narrowed,
          }
          return { ...found, supersededBy: eventId === id ? null : eventId }
        }),
    owe,
    prolong(id, sessionEndsAt) {
      const row = deliveries.get(id)
      if (row === undefined) return
      row.delivery = { ...row.delivery, sessionEndsAt }
      if (row.state === 'lapsed') revive(row, 0)
    },
    putBack({ id, target }, sub) {
      const row = deliveries.get(id)
      if (row?.deadLetterReason !== 'sub_required') return
      row.delivery = { ...row.delivery, event: { ...row.delivery.event, sub } }
      row.target = target
      revive(row, 0)
    },
    digest: (text) => hash('sha256', text),
  })

  function applySessions(changes: SessionChanges): void {
    // From the first session on, plans made without the index are refused.
    if (index.rows.length === 0 && changes.starts.length > 0) revision += 1
    index.apply(changes)
  }

  return {
    events,
    deliveries,
    sessionRows: index.rows,
    startSession: (session) => applySessions({ ends: [], starts: [session] }),
    get journalled() {
      return journal.length > 0
    },
    replay() {
      const dead = [...deliveries.values()].filter(({ state }) => state === 'dead_lettered')
      for (const row of dead) revive(row, 0)
      return dead.length
    },
    acknowledgeFetched(ids, { level, evidence }) {
      const offered = ids.flatMap((id) => deliveries.get(id) ?? []).filter(({ state }) => state === 'offered')
      for (const row of offered)
        change(row, { state: 'acknowledged', dueAt: null, settledAt: clock(), level, evidence })
      return offered.map(({ id }) => id)
    },
    endOffers() {
      const now = clock()
      const over = waiting().filter(
        ({ state, dueAt, bindingId }) =>
          state === 'offered' && dueAt !== null && (dueAt <= now || !bindings.has(bindingId)),
      )
      for (const row of over) {
        const binding = bindings.get(row.bindingId) ?? removed.get(row.bindingId)
        const state = binding?.offer?.onDeadline ?? 'lapsed'
        const deadLetterReason = state === 'dead_lettered' ? 'not_fetched' : null
        change(row, { state, dueAt: null, settledAt: now, deadLetterReason })
      }
      return over.map(({ id }) => id)
    },
    projectSessions() {
      const lines = journal
      journal = []
      index.project(lines)
    },
    attempts,
    get skewMs() {
      return skewMs
    },
    get leases() {
      return leases
    },
    claims,
    announced,
    get breakers() {
      return breakers
    },
    get settled() {
      return deliveries.size - unsettled.size
    },
    putIssuer(iss, sessionIndex = 'partial') {
      issuers.set(iss, sessionIndex)
      revision += 1
    },
    setPairwise(clients) {
      pairwise = clients
      revision += 1
    },
    putBinding(binding) {
      if (!issuers.has(binding.iss)) issuers.set(binding.iss, 'partial')
      bindings.set(binding.id, binding)
      clientOf.set(binding.id, binding.clientId)
      revision += 1
    },
    removeBinding(id) {
      const binding = bindings.get(id)
      if (binding !== undefined) removed.set(id, binding)
      bindings.delete(id)
      revision += 1
    },
    async readRegistry() {
      const byIssuer = Map.groupBy(bindings.values(), ({ iss }) => iss)
      return {
        revision,
        issuers: new Map(
          [...issuers].map(([iss, sessionIndex]) => {
            const sessionIssuer = index.rows.some(({ session }) => session.iss === iss) ? 1 : null
            return [
              iss,
              {
                bindings: byIssuer.get(iss) ?? [],
                sessionIndex,
                sessionIssuer,
                relay: DEFAULT_RELAY,
                pairwise,
                networks: { allowedNetworks: null },
              },
            ]
          }),
        ),
        bindings: new Map(bindings),
      }
    },
    readRegistryRevision: async () => revision,
    async disableBinding(id, { uri, reason }) {
      const binding = bindings.get(id)
      if (binding?.uri !== uri || binding.disabledReason !== null) return
      bindings.set(id, { ...binding, disabledReason: reason })
      revision += 1
    },
    findSessions: async (questions) => new Map(questions.map(({ event }) => [event.id, index.find(event)])),
    async findSessionTokens({ deliveryId, clientId }) {
      const row = deliveries.get(deliveryId)
      return row === undefined ? [] : index.tokens(row.delivery, clientId)
    },
    planEvents: async (request) => plan(request),
    applySessions: async (changes) => applySessions(changes),
    oweLateLogouts: async (sessions) => index.late(sessions),
    claimDue: async (request) => claim(request),
    async settleDeliveries({ batch, workerId, now }) {
      noteSkew(now)
      const seen = new Set<DeliveryId>()
      const held = batch.filter(({ id, leased: { attempts } }) => {
        const row = deliveries.get(id)
        const held = row?.state === 'in_flight' && row.leasedBy === workerId
        if (!held || row.attempts !== attempts || seen.has(id)) return false
        seen.add(id)
        return true
      })
      for (const settled of held) settleOne(settled, { workerId, now })
      return new Set(batch.filter((settled) => !held.includes(settled)).map(({ id }) => id))
    },
    async releaseDeliveries({ ids, workerId }) {
      for (const row of leasedBy(workerId)) {
        if (ids.includes(row.id))
          change(row, {
            state: 'pending',
            dueAt: earlier(row.attempts === 0 ? row.plannedAt : row.leasedAt, clock()),
          })
      }
    },
    async supersedeOlder({ ids, now }) {
      const before = waiting()
      const named = before
        .filter(({ id }) => ids.includes(id))
        .map(({ bindingId, target }) => `${bindingId} ${target}`)
      const alike = Map.groupBy(before, ({ bindingId, target }) => `${bindingId} ${target}`)
      const covered = [...new Set(named)].flatMap((name) => {
        const youngestFirst = (alike.get(name) ?? []).toSorted((a, b) => byRequest(b, a) || byPlanning(b, a))
        return youngestFirst.flatMap((older) => {
          const newer = youngestFirst.find(({ lane }) => older.lane === 'bulk' || lane === 'interactive')
          return newer !== undefined && newer !== older && maySupersede(newer, older)
            ? [{ older, newer }]
            : []
        })
      })
      for (const { older, newer } of covered) supersede(older, newer.id, now)
      return covered.length
    },
    async bringForward({ bindingId, now }) {
      const late = waiting().filter(({ dueAt }) => dueAt !== null && dueAt > now)
      const missed = late.filter(
        (row) => row.bindingId === bindingId && row.retries > 0 && row.refusals === 0,
      )
      for (const row of missed) change(row, { dueAt: earlier(row.plannedAt, now) })
      return missed.length
    },
    async giveUpUnreachable({ dueBefore, now, limit }) {
      const late = waiting().filter(({ bindingId, dueAt, plannedAt }) => {
        const before = dueBefore.get(bindingId)
        return before !== undefined && dueAt !== null && dueAt < before && plannedAt < before
      })
      const byQueue = Map.groupBy(late, ({ lane, bindingId }) => `${lane} ${bindingId}`)
      const given = [...byQueue.values()].flatMap((rows) => rows.toSorted(byDue).slice(0, limit))
      for (const row of given) {
        const dead = { state: 'dead_lettered', deadLetterReason: 'unreachable' } as const
        change(row, { ...dead, dueAt: null, settledAt: now })
      }
      return given.length
    },
    async announceSettled(ids) {
      announced.push(...new Set(ids.map(eventKeyOf)))
    },
    async noteBreakers({ workerId, opened, closed }) {
      // Computed from the rows before the call. A closed breaker is closed for all workers, an opened one for this worker.
      const others = breakers.filter(({ bindingId }) => !closed.includes(bindingId))
      const known = others.filter((row) => row.workerId === workerId).map(({ bindingId }) => bindingId)
      const fresh = workers.has(workerId) ? opened.filter((id) => !known.includes(id)) : []
      breakers = [...others, ...fresh.map((bindingId) => ({ bindingId, workerId }))]
    },
    async registerWorker({ id }) {
      if (!workers.has(id)) workers.set(id, { seenAt: clock(), working: true })
    },
    async beat(id, { working = true } = {}) {
      const alive = workers.has(id)
      if (alive) workers.set(id, { seenAt: clock(), working })
      const counted = [...workers].filter(([other, state]) => state.working || other === id)
      return {
        alive,
        workers: counted.length,
        rank: counted.filter(([other]) => other < id).length,
        now: clock(),
      }
    },
    async reclaimLeases({ leaseMs }) {
      const nowMs = clock().getTime()
      const lost = [...workers].filter(
        ([, { seenAt }]) => +seenAt <= nowMs - leaseMs || +seenAt > nowMs + leaseMs,
      )
      return bury(lost.map(([id]) => id))
    },
    async releaseUnheld({ workerId, asking, held, ended = [], upTo }) {
      const finished = new Map(ended.map(({ number, deliveries }) => [number, deliveries]))
      leases = leases.filter(
        (one) => one.workerId !== workerId || finished.get(one.number) !== one.ids.length,
      )
      const looked = leases.filter(
        (one) =>
          one.workerId === workerId &&
          !asking.includes(one.number) &&
          !finished.has(one.number) &&
          one.number <= upTo,
      )
      const known = new Set(held)
      leases = leases.flatMap((one) => {
        if (!looked.includes(one)) return [one]
        const ids = one.ids.filter((id) => known.has(id))
        return ids.length === 0 ? [] : [{ ...one, ids }]
      })
      return giveBack(looked, held)
    },
    retireWorker: async (id, { abandoned = false } = {}) =>
      bury(workers.has(id) ? [id] : [], abandoned ? null : id),
    noticeRemoved: async () => undefined,
  }
}
