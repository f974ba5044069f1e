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
  sessionStateOf,
  type Target,
} from '@curfew/domain'
import { noteSubjects } from '../delivery/event-subjects.ts'
import { newGeneration } from '../delivery/replays.ts'
import { journalPlanned, withAcceptance } from '../history/journal.ts'
import { plainArray, plainColumn, textColumn } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'
import { changeSessions, keysOf, LOCKED, type RestartedSession, type SessionKey } from './changes.ts'
import { addLifetime, type LifetimeTally } from './lifetimes.ts'
import { beginningOf, endOf, NO_END } from './order.ts'
import { readSessionDeliveries } from './session-deliveries.ts'

/** The key columns of a session `s`, whether it is `linked`, and the columns of an event `e` that may cover it. */
export const TOUCHED = `
  s.issuer, s.sub, s.sid, s.client_id as "clientId", s.linked, i.name as "issuerName",
  e.id as "eventId", e.given_id as "givenId", e.iss, e.sub as "eventSub", e.sid as "eventSid", e.scope,
  e.device as "eventDevice", e.initiator,
  e.include_initiator as "includeInitiator", e.lane, e.accepted_at as "eventAcceptedAt",
  case when e.occurred_stated then e.occurred_at end as "occurredAt", e.requested_at as "requestedAt"`

/** An indexed session, and an event that may cover it. If the event names clients, the session's client is one of them. */
export interface TouchedRow extends SessionKey {
  /** As in `LiveSession`. */
  readonly linked: boolean
  /** Null if no issuer is registered with this `iss`. */
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
  /** As the IdP stated it; null if it did not. */
  readonly occurredAt: Date | null
  readonly requestedAt: Date
  readonly eventAcceptedAt: Date
}

/** The same, with the session as read under a lock. */
interface LockedRow extends TouchedRow, Omit<LiveSession, 'linked'> {
  /** The logout that covers the session according to the index; null if there is none, or it was deleted. */
  readonly currentId: EventId | null
  readonly currentOccurredAt: Date | null
  readonly currentRequestedAt: Date | null
  /** The latest posted start, if an earlier one was posted before; null otherwise. */
  readonly restartedAt: Date | null
  readonly restartedStated: boolean | null
  readonly restartedAcceptedAt: Date | null
}

interface BindingRow extends SessionBinding {
  readonly issuer: string
  readonly clientId: ClientId
  /** Whether new events owe it a delivery. */
  readonly current: boolean
  /** As in `Binding`. */
  readonly posted: boolean
}

const digest = (text: string) => hash('sha256', text)

/**
 * Updates sessions in the index from events that may cover them. Owes deliveries for sessions that were unknown when an event was
 * planned. Records which logout covers a session, and whether that logout failed. Deletes sessions that are over.
 *
 * @param tally gets the lifetimes of the sessions that a logout ended, for `recordLifetimes`. A bulk logout ends sessions of any age,
 * which says nothing about normal lifetimes, so its sessions are left out.
 */
export async function settleSessionStates(
  transaction: Queryable,
  found: readonly TouchedRow[],
  tally: LifetimeTally,
): Promise<void> {
  if (found.length === 0) return
  // Locks before reading the deliveries: a slow writer would otherwise overwrite newer state.
  const touched = await lockSessions(transaction, found)
  const bindings = await bindingsOf(transaction, touched)
  const deliveriesOf = await readDeliveries(transaction, touched, bindings)
  const over: LockedRow[] = []
  const restarted: (LockedRow & RestartedSession)[] = []
  const revoked: LockedRow[] = []
  const covered: { row: LockedRow; state: Extract<SessionState, { kind: 'covered' }> }[] = []
  for (const rows of Map.groupBy(touched, keyOf).values()) {
    const states = rows.map((row) => {
      const ofClient = bindings.get(clientKey(row)) ?? []
      const delivered = deliveriesOf(row, ofClient)
      if (isRevoked(row, ofClient, delivered)) revoked.push(row)
      const state = sessionStateOf(toEvent(row), row, {
        alreadyCovered: row.currentId === row.eventId,
        bindings: ofClient.filter(({ current }) => current),
        deliveries: delivered,
        digest,
      })
      return { row, state }
    })
    const ended = states.flatMap(({ row, state }) => (state.kind === 'over' ? [row] : []))
    const [last] = ended
    const [latest] = states
      .flatMap(({ row, state }) => (state.kind === 'covered' ? [{ row, state }] : []))
      .toSorted((a, b) => byAcceptance(b.row, a.row))
    const beganAgain = last !== undefined && ended.every((row) => isBeforeRestart(row, row))
    if (beganAgain) restarted.push({ ...last, stillCovered: !isBeforeRestart(last, currentOf(last)) })
    if (last !== undefined && !beganAgain) over.push(last)
    else if (beganAgain && isBeforeRestart(last, latest?.row ?? null)) continue
    else if (latest !== undefined && !isOutdated(latest.row)) covered.push(latest)
  }
  await oweDeliveries(
    transaction,
    covered.flatMap(({ state }) => state.owed),
  )
  await prolong(
    transaction,
    covered.flatMap(({ row, state }) => state.prolonged.map((id) => ({ id, endsAt: row.expiresAt }))),
  )
  await putBack(
    transaction,
    covered.flatMap(({ row, state }) => state.named.map((named) => ({ ...named, sub: row.sub }))),
  )
  await changeSessions(transaction, {
    over,
    revoked,
    restarted,
    covered: covered.map(({ row, state: { by, orphaned } }) => ({ ...row, by, orphaned })),
  })
  await noteSubjects(transaction, touched)
  for (const row of [...over, ...restarted]) if (row.lane !== 'bulk') addLifetime(tally, row, row.requestedAt)
}

const LOCK_SESSIONS = `
  with given as (
    select distinct * from unnest($1::int[], $2::text[], $3::text[], $4::text[]) as g(issuer, sub, sid, client_id)
  ),
  ${LOCKED}
  select count(*) from locked`

// A separate statement, because the snapshot of the statement above lacks changes that were committed while it waited.
const READ_LOCKED = `
  select g.place, s.device, ${beginningOf('s')}, ${endOf('s')},
         s.restarted_at as "restartedAt", s.restarted_stated as "restartedStated",
         s.restarted_accepted_at as "restartedAcceptedAt", c.id as "currentId", c.requested_at as "currentRequestedAt",
         case when c.occurred_stated then c.occurred_at end as "currentOccurredAt"
    from unnest($1::int[], $2::text[], $3::text[], $4::text[]) with ordinality as g(issuer, sub, sid, client_id, place)
    cross join lateral (
      select * from sessions s
       where s.issuer = g.issuer and s.sub = g.sub and s.sid = g.sid and s.client_id = g.client_id offset 0
    ) s
    left join events c on c.id = s.logout_event_id`

/** Locks sessions until the transaction ends. @returns those that the index still has. */
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

/** Sorts by our clock, which is the same for all events. */
function byAcceptance(a: LockedRow, b: LockedRow): number {
  return a.requestedAt.getTime() - b.requestedAt.getTime() || (a.eventId < b.eventId ? -1 : 1)
}

/** Whether a session began again, and after `logout`, if there is one. */
function isBeforeRestart(
  { restartedAt, restartedStated, restartedAcceptedAt }: LockedRow,
  logout: Pick<TouchedRow, 'occurredAt' | 'requestedAt'> | null,
): boolean {
  if (restartedAt === null || restartedStated === null || restartedAcceptedAt === null) return false
  const restart = { startedAt: restartedAt, startedStated: restartedStated, acceptedAt: restartedAcceptedAt }
  return (
    logout === null || beganAfter(restart, { occurredAt: logout.occurredAt, acceptedAt: logout.requestedAt })
  )
}

/** The logout that covers a session according to the index. */
function currentOf({ currentRequestedAt, currentOccurredAt }: LockedRow) {
  return currentRequestedAt === null
    ? null
    : { occurredAt: currentOccurredAt, requestedAt: currentRequestedAt }
}

/** Whether the index has a later logout that covers the session. */
function isOutdated({ eventId, requestedAt, currentId, currentRequestedAt }: LockedRow): boolean {
  if (currentId === null || currentRequestedAt === null || currentId === eventId) return false
  return currentRequestedAt > requestedAt || (+currentRequestedAt === +requestedAt && currentId > eventId)
}

/** Whether the tokens of a session are revoked, and not replaced by those of a later visit. */
function isRevoked(
  { sid, restartedAt }: LockedRow,
  ofClient: readonly BindingRow[],
  deliveries: readonly SessionDelivery[],
): boolean {
  if (restartedAt !== null) return false
  return ofClient.some(
    ({ id, posted }) =>
      posted &&
      deliveries.some((one) => one.bindingId === id && one.sid === sid && one.state === 'acknowledged'),
  )
}

function toEvent(row: TouchedRow): LogoutEvent {
  const { eventId: id, givenId, iss, initiator, includeInitiator, lane } = row
  const times = {
    occurredAt: row.occurredAt,
    acceptedAt: row.eventAcceptedAt,
    parentAcceptedAt: row.requestedAt,
  }
  const asserted = { ...{ id, givenId, iss, initiator, includeInitiator, lane, reason: null }, ...times }
  // The lookup has already checked the clients that the event names. Up to a thousand of them would otherwise come with each
  // session.
  const event = { ...asserted, clients: null, scope: row.scope, sub: row.eventSub, sid: row.eventSid }
  return { ...event, ...(row.scope === 'device' && { device: row.eventDevice }) } as LogoutEvent
}

const BINDINGS_OF = `
  select p.issuer, p.client_id as "clientId", b.id, b.kind, b.offer, b.fallback_for as "fallbackFor",
         b.registered and p.deleted_at is null as current, b.names, b.widens, b.posted
    from unnest($1::text[], $2::text[]) as g(issuer, client_id)
    join relying_parties p on p.issuer = g.issuer and p.client_id = g.client_id
    join bindings b on b.relying_party_id = p.id
   order by b.id`

/** All current and former bindings of the clients, by client. */
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

/** Finds the deliveries that each event owes, or owed, to a client for a session. Their ids are deterministic. */
async function readDeliveries(
  transaction: Queryable,
  touched: readonly TouchedRow[],
  bindings: ReadonlyMap<string, readonly BindingRow[]>,
): Promise<(row: TouchedRow, ofClient: readonly BindingRow[]) => readonly SessionDelivery[]> {
  const idsOf = ({ eventId, eventSub, sub, sid }: TouchedRow, ofClient: readonly BindingRow[]) =>
    ofClient.flatMap(({ id }) =>
      // A delivery may name the subject of the session instead of the event's.
      (sub === eventSub ? [null] : [null, sub]).flatMap((own) => [
        deliveryId(eventId, id, sid, digest, own),
        deliveryId(eventId, id, null, digest, own),
      ]),
    )
  const ids = touched.flatMap((row) => idsOf(row, bindings.get(clientKey(row)) ?? []))
  const byId = await readSessionDeliveries(transaction, [...new Set(ids)])
  return (row, ofClient) => idsOf(row, ofClient).flatMap((id) => byId.get(id) ?? [])
}

// Inserts in the order of the ids, so that two transactions cannot deadlock. The share lock waits for an event that is just being
// deleted, which then owes nothing. It also keeps an event that owes deliveries from being deleted (`lockHistory`).
const OWE_DELIVERIES = `
  with owed as (
    insert into deliveries (id, event_id, binding_id, sid, lane, target, session_ends_at, sub, sub_withheld, state, due_at,
      planned_at, fetched)
    select g.id, g.event_id, g.binding_id, g.sid, e.lane, g.target, g.session_ends_at, g.sub, g.sub_withheld,
           case when g.offer_ms is null then 'pending' else 'offered' end, now() + make_interval(secs => coalesce(g.offer_ms, 0) / 1000.0), now(),
           g.offer_ms is not null
      from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::boolean[], $9::bigint[])
        as g(id, event_id, binding_id, target, sid, session_ends_at, sub, sub_withheld, offer_ms)
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

/** Adds deliveries of events that were planned earlier. Existing deliveries stay unchanged. */
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
      textColumn(owed.map(({ own }) => own ?? null)),
      plainArray(owed.map(({ own }) => own === null)),
      plainColumn(owed.map(({ offerMs }) => offerMs ?? null)),
    ],
  })
}

const PUT_BACK = `
  update deliveries d set ${newGeneration()}, sub = g.sub, sub_withheld = false, target = g.target
    from (
      select distinct on (id) * from unnest($1::uuid[], $2::text[], $3::uuid[]) as u(id, sub, target) order by id, sub
    ) g, events e
   where d.id = g.id and e.id = d.event_id and e.erased_at is null and d.state = 'dead_lettered' and d.dead_letter_reason = 'sub_required'`

/** Puts back dead deliveries that lacked a subject. They name the given one. */
async function putBack(
  transaction: Queryable,
  deliveries: readonly { readonly id: DeliveryId; readonly sub: Subject; readonly target: Target }[],
): Promise<void> {
  if (deliveries.length === 0) return
  await transaction.query({
    text: PUT_BACK,
    values: [
      plainArray(deliveries.map(({ id }) => id)),
      deliveries.map(({ sub }) => sub),
      plainArray(deliveries.map(({ target }) => target)),
    ],
  })
}

// Waits for no lock: deliveries that are just being settled or claimed stay unchanged.
const PROLONG = `
  with given as (
    select d.id, g.ends_at
      from unnest($1::uuid[], $2::timestamptz[]) as g(id, ends_at)
      join deliveries d on d.id = g.id
     where (d.settled_at is null or d.state = 'dead_lettered') 
       and (d.session_ends_at < g.ends_at or d.session_ends_at is not null and g.ends_at is null)
       for update of d skip locked
  )
  update deliveries d set session_ends_at = given.ends_at from given where d.id = given.id`

// Of several sessions that one delivery names, the last end counts. An issuer logout takes a delivery of a new generation off its dead
// ones, so each lapsed one is counted as dead first.
const PUT_BACK_LAPSED = `
  with back as (
    update deliveries d set ${newGeneration()}, session_ends_at = nullif(g.ends_at, ${NO_END})
    from (
      select id, max(coalesce(ends_at, ${NO_END})) as ends_at
        from unnest($1::uuid[], $2::timestamptz[]) as u(id, ends_at) group by id
    ) g, events e
   where d.id = g.id and e.id = d.event_id and e.erased_at is null and d.state = 'lapsed' and d.session_ends_at < g.ends_at
  returning e.parent_id
  ),
  recounted as (
    update issuer_logouts l set lapsed = l.lapsed - c.count, dead = l.dead + c.count
      from (select parent_id, count(*) as count from back where parent_id is not null group by parent_id) c
     where l.event_id = c.parent_id
  )
  select from back limit 0`

async function prolong(
  transaction: Queryable,
  deliveries: readonly { readonly id: DeliveryId; readonly endsAt: Date | null }[],
): Promise<void> {
  if (deliveries.length === 0) return
  const ids = plainArray(deliveries.map(({ id }) => id))
  const values = [ids, plainColumn(deliveries.map(({ endsAt }) => endsAt))]
  await transaction.query({ text: PUT_BACK_LAPSED, values })
  await transaction.query({ text: PROLONG, values })
}
