import { hash } from 'node:crypto'
import {
  beganAfter,
  type ClientId,
  type DeliveryId,
  deliveryId,
  type EventId,
  type GivenEventId,
  type Issuer,
  type LiveSession,
  type LogoutEvent,
  type OwedDelivery,
  type SessionBinding,
  type SessionDelivery,
  type SessionState,
  type Sid,
  type Subject,
  standingOf,
} from '@curfew/domain'
import { noteSubjects } from '../delivery/event-subjects.ts'
import { journalPlanned, withAcceptance } from '../history/journal.ts'
import { plainArray, plainColumn, textColumn } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { changeSessions, keysOf, LOCKED, type RestartedSession, type SessionKey } from './changes.ts'
import { beginningOf } from './order.ts'
import { readSessionDeliveries } from './session-deliveries.ts'

/** Columns of a session `s`, by what names it, and of an event `e` that may cover it. */
export const TOUCHED = `
  s.issuer, s.sub, s.sid, s.client_id as "clientId", i.name as "issuerName",
  e.id as "eventId", e.given_id as "givenId", e.iss, e.sub as "eventSub", e.sid as "eventSid", e.scope,
  e.device as "eventDevice", e.initiator,
  e.include_initiator as "includeInitiator", e.lane, e.accepted_at as "eventAcceptedAt",
  case when e.occurred_stated then e.occurred_at end as "occurredAt", e.asked_at as "askedAt"`

/** A session in the index, and an event that may cover it. Of an event that names its clients, this one is among them. */
export interface TouchedRow extends SessionKey {
  /** Null where no issuer has this `iss`. */
  readonly issuerName: string | null
  readonly eventId: EventId
  readonly givenId: GivenEventId
  readonly iss: Issuer
  readonly eventSub: Subject | null
  readonly eventSid: Sid | null
  readonly scope: LogoutEvent['scope']
  readonly eventDevice: string | null
  readonly initiator: ClientId | null
  readonly includeInitiator: boolean
  readonly lane: LogoutEvent['lane']
  /** As the IdP stated it; null where it did not. */
  readonly occurredAt: Date | null
  readonly askedAt: Date
  readonly eventAcceptedAt: Date
}

/** The same, as the session stands once nobody else can change it. */
interface LockedRow extends TouchedRow, LiveSession {
  /** The logout that the index says sees to it; null where none does, or it is no longer kept. */
  readonly currentId: EventId | null
  readonly currentOccurredAt: Date | null
  readonly currentAskedAt: Date | null
  /** When it was last said to begin, where it had been said before to begin earlier. */
  readonly restartedAt: Date | null
  readonly restartedStated: boolean | null
  readonly restartedAcceptedAt: Date | null
}

interface BindingRow extends SessionBinding {
  readonly issuer: string
  readonly clientId: ClientId
  /** Whether it is to be told of what is planned now. */
  readonly current: boolean
}

const digest = (text: string) => hash('sha256', text)

/**
 * Brings what the index says of sessions up to what the ledger says of events that may cover them: tells whoever was not known
 * when an event was planned, notes which logout sees to a session, or came to nothing, and forgets what is over.
 */
export async function settleSessionStates(
  transaction: Queryable,
  found: readonly TouchedRow[],
): Promise<void> {
  if (found.length === 0) return
  // Before it is read what became of deliveries: else what is known to one who writes late undoes what is known by then.
  const touched = await lockSessions(transaction, found)
  const bindings = await bindingsOf(transaction, touched)
  const told = await toldOf(transaction, touched, bindings)
  const over: LockedRow[] = []
  const restarted: RestartedSession[] = []
  const covered: { row: LockedRow; standing: Extract<SessionState, { kind: 'covered' }> }[] = []
  for (const rows of Map.groupBy(touched, keyOf).values()) {
    const standings = rows.map((row) => {
      const ofClient = bindings.get(clientKey(row)) ?? []
      const standing = standingOf(toEvent(row), row, {
        taken: row.currentId === row.eventId,
        bindings: ofClient.filter(({ current }) => current),
        told: told(row, ofClient),
        digest,
      })
      return { row, standing }
    })
    const ended = standings.flatMap(({ row, standing }) => (standing.kind === 'over' ? [row] : []))
    const [last] = ended
    const [latest] = standings
      .flatMap(({ row, standing }) => (standing.kind === 'covered' ? [{ row, standing }] : []))
      .toSorted((a, b) => byAcceptance(b.row, a.row))
    const anew = last !== undefined && ended.every((row) => isBeforeRestart(row, row))
    if (anew) restarted.push({ ...last, stillCovered: !isBeforeRestart(last, currentOf(last)) })
    if (last !== undefined && !anew) over.push(last)
    else if (anew && isBeforeRestart(last, latest?.row ?? null)) continue
    else if (latest !== undefined && !isOutdated(latest.row)) covered.push(latest)
  }
  await oweDeliveries(
    transaction,
    covered.flatMap(({ standing }) => standing.owed),
  )
  await prolong(
    transaction,
    covered.flatMap(({ row, standing }) => standing.prolonged.map((id) => ({ id, endsAt: row.expiresAt }))),
  )
  await changeSessions(transaction, {
    over,
    restarted,
    covered: covered.map(({ row, standing: { by, orphaned } }) => ({ ...row, by, orphaned })),
  })
  await noteSubjects(transaction, touched)
}

const LOCK_SESSIONS = `
  with given as (
    select distinct * from unnest($1::int[], $2::text[], $3::text[], $4::text[]) as g(issuer, sub, sid, client_id)
  ),
  ${LOCKED}
  select count(*) from locked`

// A statement of its own: what was committed while the one above waited is not in that one's snapshot.
const READ_LOCKED = `
  select g.place, s.device, ${beginningOf('s')}, s.expires_at as "expiresAt",
         s.restarted_at as "restartedAt", s.restarted_stated as "restartedStated",
         s.restarted_accepted_at as "restartedAcceptedAt", c.id as "currentId", c.asked_at as "currentAskedAt",
         case when c.occurred_stated then c.occurred_at end as "currentOccurredAt"
    from unnest($1::int[], $2::text[], $3::text[], $4::text[]) with ordinality as g(issuer, sub, sid, client_id, place)
    cross join lateral (
      select * from sessions s
       where s.issuer = g.issuer and s.sub = g.sub and s.sid = g.sid and s.client_id = g.client_id offset 0
    ) s
    left join events c on c.id = s.logout_event_id`

/** Keeps others from these sessions until the transaction ends. @returns those that the index still has. */
async function lockSessions(
  transaction: Queryable,
  found: readonly TouchedRow[],
): Promise<readonly LockedRow[]> {
  const values = keysOf(found)
  await transaction.query({ text: LOCK_SESSIONS, values })
  const { rows } = await transaction.query<Omit<LockedRow, keyof TouchedRow> & { readonly place: number }>({
    text: READ_LOCKED,
    values,
  })
  return rows.flatMap(({ place, ...session }) => {
    const row = found[place - 1]
    return row === undefined ? [] : [{ ...row, ...session }]
  })
}

const keyOf = ({ issuer, sub, sid, clientId }: TouchedRow) => JSON.stringify([issuer, sub, sid, clientId])
const clientKey = ({ issuerName, clientId }: Pick<TouchedRow, 'issuerName' | 'clientId'>) =>
  JSON.stringify([issuerName, clientId])

/** By our clock, which is one for all events. */
function byAcceptance(a: LockedRow, b: LockedRow): number {
  return a.askedAt.getTime() - b.askedAt.getTime() || (a.eventId < b.eventId ? -1 : 1)
}

/** Whether a session began anew, and did so after a logout, if there is any. */
function isBeforeRestart(
  { restartedAt, restartedStated, restartedAcceptedAt }: LockedRow,
  logout: Pick<TouchedRow, 'occurredAt' | 'askedAt'> | null,
): boolean {
  if (restartedAt === null || restartedStated === null || restartedAcceptedAt === null) return false
  const restart = { startedAt: restartedAt, startedStated: restartedStated, acceptedAt: restartedAcceptedAt }
  return logout === null || beganAfter(restart, { occurredAt: logout.occurredAt, acceptedAt: logout.askedAt })
}

/** The logout that the index says sees to a session. */
function currentOf({ currentAskedAt, currentOccurredAt }: LockedRow) {
  return currentAskedAt === null ? null : { occurredAt: currentOccurredAt, askedAt: currentAskedAt }
}

/** Whether a later logout than this one sees to the session by now. */
function isOutdated({ eventId, askedAt, currentId, currentAskedAt }: LockedRow): boolean {
  if (currentId === null || currentAskedAt === null || currentId === eventId) return false
  return currentAskedAt > askedAt || (+currentAskedAt === +askedAt && currentId > eventId)
}

function toEvent(row: TouchedRow): LogoutEvent {
  const { eventId: id, givenId, iss, initiator, includeInitiator, lane } = row
  const times = {
    occurredAt: row.occurredAt,
    acceptedAt: row.eventAcceptedAt,
    parentAcceptedAt: row.askedAt,
  }
  const asserted = { ...{ id, givenId, iss, initiator, includeInitiator, lane, reason: null }, ...times }
  // Which clients it names was asked of the database: a list of a thousand would come with each session.
  const event = { ...asserted, clients: null, scope: row.scope, sub: row.eventSub, sid: row.eventSid }
  return { ...event, ...(row.scope === 'device' && { device: row.eventDevice }) } as LogoutEvent
}

const BINDINGS_OF = `
  select p.issuer, p.client_id as "clientId", b.id, b.kind, b.fallback_for as "fallbackFor",
         b.registered and p.deleted_at is null as current, b.names, b.widens
    from unnest($1::text[], $2::text[]) as g(issuer, client_id)
    join relying_parties p on p.issuer = g.issuer and p.client_id = g.client_id
    join bindings b on b.relying_party_id = p.id
   order by b.id`

/** All bindings that the clients have, or had, by client. */
async function bindingsOf(
  transaction: Queryable,
  touched: readonly TouchedRow[],
): Promise<ReadonlyMap<string, readonly BindingRow[]>> {
  const clients = [...new Map(touched.map((row) => [clientKey(row), row])).values()]
  const { rows } = await transaction.query<BindingRow>({
    name: 'bindings_of',
    text: BINDINGS_OF,
    values: [clients.map(({ issuerName }) => issuerName), clients.map(({ clientId }) => clientId)],
  })
  return Map.groupBy(rows, ({ issuer, clientId }) => clientKey({ issuerName: issuer, clientId }))
}

/** What each event owes, or owed, to a client for a session: found by the ids that such deliveries have. */
async function toldOf(
  transaction: Queryable,
  touched: readonly TouchedRow[],
  bindings: ReadonlyMap<string, readonly BindingRow[]>,
): Promise<(row: TouchedRow, ofClient: readonly BindingRow[]) => readonly SessionDelivery[]> {
  const idsOf = ({ eventId, sid }: TouchedRow, ofClient: readonly BindingRow[]) =>
    ofClient.flatMap(({ id }) => [
      deliveryId(eventId, id, sid, digest),
      deliveryId(eventId, id, null, digest),
    ])
  const ids = touched.flatMap((row) => idsOf(row, bindings.get(clientKey(row)) ?? []))
  const byId = await readSessionDeliveries(transaction, [...new Set(ids)])
  return (row, ofClient) => idsOf(row, ofClient).flatMap((id) => byId.get(id) ?? [])
}

// In the order of the ids, so that no two who owe the same wait for each other. An event that is being forgotten in this moment is
// waited for, and owes nothing then; one that owes is not forgotten (`lockHistory`).
const OWE_DELIVERIES = `
  with owed as (
    insert into deliveries (id, event_id, binding_id, sid, lane, target, session_ends_at, state, due_at, planned_at)
    select g.id, g.event_id, g.binding_id, g.sid, e.lane, g.target, g.session_ends_at, 'pending', now(), now()
      from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::timestamptz[])
        as g(id, event_id, binding_id, target, sid, session_ends_at)
      join events e on e.id = g.event_id and e.erased_at is null
     order by g.id
       for share of e
    on conflict (id) do nothing
    returning id, event_id, binding_id
  ),
  journalled as (
    ${journalPlanned({ at: 'now()', eventIds: 'null::uuid[]', from: withAcceptance('owed') })}
  )
  select from owed limit 0`

/** Owes deliveries of events that were planned before. One that is owed already stays as it is. */
export async function oweDeliveries(transaction: Queryable, owed: readonly OwedDelivery[]): Promise<void> {
  if (owed.length === 0) return
  await transaction.query({
    name: 'owe_deliveries',
    text: OWE_DELIVERIES,
    values: [
      plainArray(owed.map(({ delivery }) => delivery.id)),
      plainArray(owed.map(({ delivery }) => delivery.eventId)),
      plainArray(owed.map(({ delivery }) => delivery.bindingId)),
      plainArray(owed.map(({ target }) => target)),
      textColumn(owed.map(({ delivery }) => delivery.sid)),
      plainColumn(owed.map(({ delivery }) => delivery.sessionEndsAt)),
    ],
  })
}

// Nobody is waited for: what is being settled or claimed at this moment is left as it is.
const PROLONG = `
  with given as (
    select d.id, g.ends_at
      from unnest($1::uuid[], $2::timestamptz[]) as g(id, ends_at)
      join deliveries d on d.id = g.id
     where (d.settled_at is null or d.state = 'dead_lettered') and d.session_ends_at < g.ends_at
       for update of d skip locked
  )
  update deliveries d set session_ends_at = given.ends_at from given where d.id = given.id`

async function prolong(
  transaction: Queryable,
  deliveries: readonly { readonly id: DeliveryId; readonly endsAt: Date }[],
): Promise<void> {
  if (deliveries.length === 0) return
  const ids = plainArray(deliveries.map(({ id }) => id))
  await transaction.query({
    text: PROLONG,
    values: [ids, plainArray(deliveries.map(({ endsAt }) => endsAt))],
  })
}
