import {
  type Binding,
  beganAfter,
  type ClientId,
  type DeliveryId,
  type EventId,
  isPairwise,
  type LiveSession,
  type LogoutEvent,
  mergeStarts,
  type OwedDelivery,
  type PairwiseClients,
  requestedAtOf,
  type Session,
  type SessionBeginning,
  type SessionChanges,
  type SessionDelivery,
  type SessionIndexUse,
  type SessionState,
  type Sid,
  type Subject,
  sessionStateOf,
  type Target,
} from '@curfew/domain'

/** A row of `sessions`, with its later state. */
export interface MemorySession {
  session: Session
  /** When the index first had it, by the clock of the ledger. */
  readonly knownAt: Date
  /** When the index removed it; null while the index has it. */
  goneAt: Date | null
  logoutEventId: EventId | null
  orphanedAt: Date | null
  /** The latest start, if it was reported after an earlier start. */
  restarted: SessionBeginning | null
}

/** The rest of the ledger, as the index sees it. */
export interface Surroundings {
  readonly now: () => Date
  readonly sessionIndex: () => SessionIndexUse
  readonly pairwise: () => PairwiseClients | null
  readonly events: ReadonlyMap<EventId, { readonly event: LogoutEvent }>
  bindingsOf(session: Session): readonly Binding[]
  /** The deliveries of an event to the client of a session. */
  deliveriesOf(event: LogoutEvent, session: Session): readonly SessionDelivery[]
  owe(owed: OwedDelivery): void
  prolong(id: DeliveryId, endsAt: Date | null): void
  /** Puts back a dead delivery that lacked the subject. */
  putBack(named: { readonly id: DeliveryId; readonly target: Target }, sub: Subject): void
  digest(text: string): string
}

/** A journal entry: an event was planned, or one of its deliveries was settled. */
export type JournalLine =
  | { readonly kind: 'planned'; readonly eventId: EventId }
  | {
      readonly kind: 'settled'
      readonly eventId: EventId
      readonly clientId: ClientId | undefined
      readonly sid: Sid | null
    }

export interface MemorySessionIndex {
  /** All sessions that the index ever had. */
  readonly rows: readonly MemorySession[]
  find(event: LogoutEvent): readonly LiveSession[]
  /** The sessions of a client under a `sub`. */
  held(sub: Subject, clientId: ClientId): readonly LiveSession[]
  /** The sealed tokens of a session, unless it began again after the event. */
  tokens(named: Pick<OwedDelivery['delivery'], 'eventId' | 'sid'>, clientId: ClientId): readonly string[]
  apply(changes: SessionChanges): void
  /** Adds the deliveries that sessions missed because they started late. */
  late(sessions: readonly Session[]): void
  /** Projects journal entries onto the index. */
  project(lines: readonly JournalLine[]): void
}

/** The semantics of the index in PostgreSQL. Each step is atomic. */
export function createMemorySessionIndex({
  now,
  sessionIndex,
  pairwise,
  events,
  ...ledger
}: Surroundings): MemorySessionIndex {
  const rows: MemorySession[] = []
  const known = () => rows.filter(({ goneAt }) => goneAt === null)

  function stateOf({ session, logoutEventId }: MemorySession, event: LogoutEvent): SessionState {
    const deliveries = ledger.deliveriesOf(event, session)
    const linked = deliveries.some(({ sub }) => sub === session.sub) || isLinked(event, session)
    return sessionStateOf(
      event,
      { ...session, linked: linked && event.scope !== 'session' },
      {
        alreadyCovered: logoutEventId === event.id,
        bindings: ledger.bindingsOf(session),
        deliveries,
        digest: ledger.digest,
      },
    )
  }

  /** Whether a session is of the event's user, under another name. */
  function isLinked(event: LogoutEvent, session: Session): boolean {
    const { scope, sub, sid, relayed } = event
    if (pairwise() === null || sub === null || (scope !== 'subject' && scope !== 'device')) return false
    if (session.sub === sub) return false
    const sessions = known().map((row) => row.session)
    const isPrivate = (clientId: ClientId) => isPairwise(pairwise(), clientId)
    const clientIds = sessions.filter((one) => one.sub === sub).map(({ clientId }) => clientId)
    if (clientIds.length === 0 && relayed !== undefined) clientIds.push(relayed.clientId)
    const hidden = clientIds.length > 0 && clientIds.every(isPrivate)
    const isOf = (one: Session, name: Name) =>
      one.sub === name.sub && (name.clientId === null || name.clientId === one.clientId)
    const names: Name[] = [{ sub, clientId: null }]
    for (let at = 0; at < names.length; at++) {
      const name = names[at] as Name
      const sids = new Set(sessions.filter((one) => isOf(one, name)).map((one) => one.sid))
      if (at === 0 && sid !== null) sids.add(sid)
      for (const one of sessions) {
        if (!sids.has(one.sid) || !(hidden || isPrivate(one.clientId))) continue
        const next = { sub: one.sub, clientId: isPrivate(one.clientId) ? one.clientId : null }
        if (!names.some((each) => each.sub === next.sub && each.clientId === next.clientId)) names.push(next)
      }
    }
    return names.some((name) => isOf(session, name))
  }

  const isAbout = (event: LogoutEvent, session: Session): boolean =>
    event.sub === session.sub ||
    event.sid === session.sid ||
    isLinked(event, session) ||
    ledger.deliveriesOf(event, session).some(({ sub }) => sub === session.sub)

  function settle(row: MemorySession, touching: readonly LogoutEvent[]): void {
    const about = touching.filter((event) => isAbout(event, row.session))
    const states = about.map((event) => ({ event, state: stateOf(row, event) }))
    const ended = states.flatMap((each) => (each.state.kind === 'over' ? [each.event] : []))
    if (ended.length > 0) {
      row.goneAt = now()
      const { restarted } = row
      if (restarted !== null && ended.every((event) => beganAfter(restarted, event)))
        restart(row, restarted, touching)
      return
    }
    const [latest] = states
      .flatMap(({ event, state: found }) => (found.kind === 'covered' ? [{ event, found }] : []))
      .toSorted((a, b) => (isLater(a.event, b.event) ? -1 : 1))
    const current = row.logoutEventId === null ? undefined : events.get(row.logoutEventId)?.event
    if (latest === undefined) return
    if (current !== undefined && current.id !== latest.event.id && isLater(current, latest.event)) return
    const { by, orphaned, owed, prolonged, named } = latest.found
    for (const dead of named) ledger.putBack(dead, row.session.sub)
    for (const one of owed) ledger.owe(one)
    for (const id of prolonged) ledger.prolong(id, row.session.expiresAt)
    const since = row.logoutEventId === by ? (row.orphanedAt ?? now()) : now()
    row.logoutEventId = by
    row.orphanedAt = orphaned ? since : null
  }

  /** Restarts a session that had ended. The new row has only the facts reported since. */
  function restart(
    ended: MemorySession,
    beginning: SessionBeginning,
    touching: readonly LogoutEvent[],
  ): void {
    const since = ended.logoutEventId === null ? undefined : events.get(ended.logoutEventId)?.event
    const covered = since !== undefined && !beganAfter(beginning, since)
    const row: MemorySession = {
      ...{ session: { ...ended.session, ...beginning }, knownAt: now(), goneAt: null, restarted: null },
      logoutEventId: covered ? ended.logoutEventId : null,
      orphanedAt: covered ? ended.orphanedAt : null,
    }
    rows.push(row)
    settle(row, touching)
  }

  const isOff = () => sessionIndex() === 'off'

  return {
    rows,
    find: (event) =>
      known()
        .filter(({ session: { expiresAt } }) => expiresAt === null || expiresAt > now())
        .flatMap(({ session }) => {
          if (event.scope === 'session') return session.sid === event.sid ? [session] : []
          if (session.sub === event.sub) return [session]
          return isLinked(event, session) ? [{ ...session, linked: true }] : []
        }),
    held: (sub, clientId) =>
      known()
        .map(({ session }) => session)
        .filter(({ expiresAt }) => expiresAt === null || expiresAt > now())
        .filter((session) => session.sub === sub && session.clientId === clientId)
        .map((session) => ({ ...session, linked: true })),
    tokens({ eventId, sid }, clientId) {
      const event = events.get(eventId)?.event
      return known()
        .filter(({ session }) => session.sid === sid && session.clientId === clientId)
        .filter(({ restarted }) => restarted === null || event === undefined || !beganAfter(restarted, event))
        .flatMap(({ session }) => session.sealedTokens ?? [])
    },
    apply({ ends, starts }) {
      for (const { iss, sid, clientId } of ends) {
        for (const row of known()) {
          const meant = row.session.iss === iss && row.session.sid === sid
          if (meant && (clientId === null || clientId === row.session.clientId)) row.goneAt = now()
        }
      }
      for (const session of starts) {
        const earlier = known().find((row) => keyOf(row.session) === keyOf(session))
        if (earlier === undefined) {
          const { restarted = null, replacesEnd: _, ...began } = session
          const known = { session: began, knownAt: now(), goneAt: null }
          rows.push({ ...known, logoutEventId: null, orphanedAt: null, restarted })
          continue
        }
        const before = earlier.restarted
        const {
          restarted = null,
          replacesEnd: _,
          ...merged
        } = mergeStarts({ ...earlier.session, ...(before !== null && { restarted: before }) }, session)
        earlier.restarted = restarted
        earlier.session = merged
      }
    },
    late(sessions) {
      if (isOff()) return
      const keys = new Set(sessions.map(keyOf))
      for (const row of known().filter(({ session }) => keys.has(keyOf(session)))) {
        const [latest] = [...events.values()]
          .map(({ event }) => event)
          .filter((event) => isAbout(event, row.session))
          .filter((event) => stateOf(row, event).kind !== 'untouched')
          .toSorted((a, b) => (isLater(a, b) ? -1 : 1))
        if (latest !== undefined) settle(row, [latest])
      }
    },
    project(lines) {
      if (isOff()) return
      for (const row of known()) {
        const ids = new Set(lines.filter((line) => touches(line, row.session)).map(({ eventId }) => eventId))
        settle(
          row,
          [...ids].flatMap((id) => events.get(id)?.event ?? []),
        )
      }
    },
  }
}

/** A name of a user. `clientId`: the only client that knows the user by it; null if it is no pairwise one. */
interface Name {
  readonly sub: Subject
  readonly clientId: ClientId | null
}

function touches(line: JournalLine, { clientId, sid }: Session): boolean {
  if (line.kind === 'planned') return true
  return line.clientId === clientId && (line.sid === null || line.sid === sid)
}

function isLater(a: LogoutEvent, b: LogoutEvent): boolean {
  return requestedAtOf(a) > requestedAtOf(b) || (+requestedAtOf(a) === +requestedAtOf(b) && a.id > b.id)
}

function keyOf({ iss, sub, sid, clientId }: Session): string {
  return JSON.stringify([iss, sub, sid, clientId])
}
