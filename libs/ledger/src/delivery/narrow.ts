import { hash } from 'node:crypto'
import {
  type Binding,
  type DeliveryId,
  LedgerUnavailableError,
  type LiveSession,
  type LogoutEvent,
  narrowingOf,
  narrowingOfMany,
  type OwedDelivery,
  type WorkerId,
} from '@curfew/domain'
import { journalSettled, withAcceptance } from '../history/journal.ts'
import { plainArray, plainColumn } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { isRefusal } from '../postgres/faults.ts'
import { SESSIONS_MAX } from '../sessions/find.ts'
import { beganBy, beginningOf, endOf, mayBeOnDevice } from '../sessions/order.ts'
import { oweDeliveries } from '../sessions/session-states.ts'

// A delivery that names the subject is checked at every claim: a session that began after the logout may have been posted since.
// The check is not part of the claim's statement, so that the claim waits for no table of the index.

/** How long a claim waits for the index, in milliseconds. Without an answer, the token for the subject is sent. */
const TIMEOUT_MS = 1_000
const LIMIT_TIME = `set local statement_timeout = ${TIMEOUT_MS}`
const PATIENCE_MS = 2 * TIMEOUT_MS

/** SQL: deliveries of `$1` that name a subject, with the rows that lead to the sessions of that subject at the client. */
const CLAIMED = `
    from unnest($1::uuid[]) as g(id)
    join deliveries d on d.id = g.id and d.sid is null and not d.sub_withheld
    join events e on e.id = d.event_id and e.scope in ('subject', 'device')
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id
    join session_issuers x on x.iss = e.iss
    join issuers i on i.name = p.issuer and i.session_index <> 'off'`
const HELD =
  's.issuer = x.id and s.sub = coalesce(d.sub, e.sub) and s.client_id = p.client_id and s.expires_at > now()'
const COVERED = `${beganBy()} and ${mayBeOnDevice()}`

const FIND_SPARED = `
  select d.id ${CLAIMED}
   where exists (select from sessions s where ${HELD} and not (${COVERED}))`

/** Finds the deliveries that would end a session which their event does not cover. None if the index does not answer in time. */
async function findSpared(db: Database, ids: readonly DeliveryId[]): Promise<readonly DeliveryId[]> {
  try {
    return await withTransaction(db, async (transaction) => {
      await transaction.query({ text: LIMIT_TIME, timeoutMs: PATIENCE_MS })
      const { rows } = await transaction.query<{ id: DeliveryId }>({
        name: 'find_spared',
        text: FIND_SPARED,
        values: [plainArray(ids)],
        timeoutMs: PATIENCE_MS,
      })
      return rows.map(({ id }) => id)
    })
  } catch (error) {
    if (error instanceof LedgerUnavailableError || isRefusal(error)) return []
    throw error
  }
}

// Reads one session more than `$2`, so that a truncated list is recognised. Leaves out a delivery whose later session has just
// ended: it is sent. This is checked by itself, because a truncated list may lack the later session.
const READ_SPARED = `
  select d.id, e.id as "eventId", e.given_id as "givenId", e.iss, e.sub, e.sid, e.scope, e.device, e.lane, e.initiator,
         e.include_initiator as "includeInitiator", e.accepted_at as "eventAcceptedAt", e.requested_at as "requestedAt",
         case when e.occurred_stated then e.occurred_at end as "occurredAt",
         b.id as "bindingId", b.names,
         s.sid as "sessionSid", s.sub as "sessionSub", s.device as "sessionDevice", s.client_id as "clientId", ${beginningOf('s')},
         ${endOf('s')} ${CLAIMED}
    cross join lateral (select from sessions s where ${HELD} and not (${COVERED}) limit 1) later
    cross join lateral (select * from sessions s where ${HELD} limit $2::int + 1) s`

/** A delivery, its event, its binding, and one session of its client. */
interface SparedRow extends Omit<LiveSession, 'sub' | 'sid' | 'device'> {
  readonly id: DeliveryId
  readonly eventId: LogoutEvent['id']
  readonly givenId: LogoutEvent['givenId']
  readonly iss: LogoutEvent['iss']
  readonly sub: LiveSession['sub']
  readonly sid: LogoutEvent['sid']
  readonly scope: 'subject' | 'device'
  readonly device: string | null
  readonly lane: LogoutEvent['lane']
  readonly initiator: LogoutEvent['initiator']
  readonly includeInitiator: boolean
  readonly eventAcceptedAt: Date
  readonly requestedAt: Date
  readonly occurredAt: Date | null
  readonly bindingId: Binding['id']
  readonly names: Binding['names']
  readonly sessionSid: LiveSession['sid']
  readonly sessionSub: LiveSession['sub']
  readonly sessionDevice: string | null
}

// Deliveries that name the older sessions replace this one, so it is superseded. Without any it becomes a dead letter: the person
// may still be signed in with a session that was never posted, so neither lapsed nor acknowledged would be true.
const NARROW = `
  with given as (select * from unnest($2::uuid[], $3::uuid[]) as g(id, named_by)),
  narrowed as (
    update deliveries d
       set state = case when g.named_by is null then 'dead_lettered' else 'superseded' end, superseded_by = g.named_by,
           dead_letter_reason = case when g.named_by is null then 'later_session' end, settled_at = now(),
           first_message = null
      from given g
     where d.id = g.id and d.state = 'in_flight' and d.leased_by = $1
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('narrowed'), 'now()')}
  )
  select id from narrowed`

const digest = (text: string) => hash('sha256', text)

/**
 * Settles the deliveries that name the subject and would end a session that began after their logout. Owes a delivery for each
 * older session instead. After a crash between the claim and this, the deliveries are claimed and checked again.
 *
 * If a client has more than `sessionsMax` sessions, none is named, as in planning (`findSessions`): see `narrowingOfMany`.
 *
 * @param ids deliveries claimed by `workerId`.
 * @returns the deliveries that must not be attempted.
 */
export async function narrowClaimed(
  db: Database,
  {
    ids,
    workerId,
    sessionsMax = SESSIONS_MAX,
  }: { ids: readonly DeliveryId[]; workerId: WorkerId; sessionsMax?: number },
): Promise<ReadonlySet<DeliveryId>> {
  const spared = await findSpared(db, ids)
  if (spared.length === 0) return new Set()
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<SparedRow>({
      text: READ_SPARED,
      values: [plainArray(spared), sessionsMax],
    })
    const narrowed = [...Map.groupBy(rows, ({ id }) => id)].flatMap(([id, ofDelivery]) => {
      const owed = narrowedBy(ofDelivery, sessionsMax)
      return owed === null ? [] : [{ id, owed }]
    })
    await oweDeliveries(
      transaction,
      narrowed.flatMap(({ owed }) => owed),
    )
    await settleNarrowed(transaction, narrowed, workerId)
    return new Set(narrowed.map(({ id }) => id))
  })
}

/** The deliveries that replace this one; null if it is to be sent. */
function narrowedBy(rows: readonly SparedRow[], sessionsMax: number): readonly OwedDelivery[] | null {
  const [row] = rows
  if (row === undefined) return null
  const { bindingId, names } = row
  const held = rows.map(({ sessionSid, sessionSub, sessionDevice, ...session }): LiveSession => {
    // The delivery names the subject of these sessions, so that is a name of the event's subject.
    return { ...session, sid: sessionSid, sub: sessionSub, device: sessionDevice, linked: true }
  })
  const binding = { id: bindingId, names }
  const narrowing =
    held.length > sessionsMax
      ? narrowingOfMany(toEvent(row), binding, held)
      : narrowingOf(toEvent(row), binding, held, digest)
  return narrowing.kind === 'narrowed' ? narrowing.owed : null
}

function toEvent(row: SparedRow): LogoutEvent {
  const { eventId: id, givenId, iss, sub, sid, lane, initiator, includeInitiator, occurredAt } = row
  const asserted = {
    ...{
      id,
      givenId,
      iss,
      sub,
      sid,
      lane,
      initiator,
      includeInitiator,
      occurredAt,
      reason: null,
      clients: null,
    },
    ...{ acceptedAt: row.eventAcceptedAt, parentAcceptedAt: row.requestedAt },
  }
  return row.scope === 'device'
    ? { ...asserted, scope: 'device', device: row.device ?? '' }
    : { ...asserted, scope: 'subject' }
}

async function settleNarrowed(
  transaction: Queryable,
  narrowed: readonly { readonly id: DeliveryId; readonly owed: readonly OwedDelivery[] }[],
  workerId: WorkerId,
): Promise<void> {
  if (narrowed.length === 0) return
  await transaction.query({
    name: 'narrow',
    text: NARROW,
    values: [
      workerId,
      plainArray(narrowed.map(({ id }) => id)),
      plainColumn(narrowed.map(({ owed }) => owed[0]?.delivery.id ?? null)),
    ],
  })
}
