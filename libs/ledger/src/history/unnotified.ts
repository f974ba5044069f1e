import {
  type EventRecord,
  type UnnotifiedClients,
  unnotifiedAmong,
  type WithoutDelivery,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'
import { SESSIONS_MAX } from '../sessions/find.ts'
import { linkedSessionsOfEvent } from '../sessions/linked.ts'
import { beganBy, mayBeOnDevice, NO_END } from '../sessions/order.ts'
import { knowsAll } from '../sessions/quotas.ts'
import { type FoundEvent, HAD_PARTY } from './history.ts'

// The session index is asked when the summary is read, not when the event is planned. So the answer has sessions that were posted
// later. A session leaves the index only when it is over: it expired, its end was posted, or a logout of it was acknowledged.

const NOT_INITIATED = '(s.client_id is distinct from e.initiator or e.include_initiator or e.sid <> s.sid)'
const ENDED = `${beganBy()} and s.expires_at > now() and (e.clients is null or s.client_id = any(e.clients))
           and ${NOT_INITIATED}`
const COLUMNS = 's.client_id, s.expires_at, s.orphaned_at'
// The sessions that the event ends, by client. `offset 0` keeps each lookup one index scan of one partition.
const SESSIONS = `
  select e.id as "eventId", s.client_id as "clientId", bool_or(s.orphaned_at is not null) as orphaned,
         nullif(max(s.expires_at), ${NO_END}) as "endAt",
         max(s.n) > ${SESSIONS_MAX} as "tooMany"
    from unnest($1::uuid[]) as asked(id)
    join events e on e.id = asked.id
    join session_issuers x on x.iss = e.iss
    left join issuers i on i.iss = e.iss and i.deleted_at is null
    cross join lateral (
      select found.*, count(*) over () as n from (
        (select ${COLUMNS} from sessions s
          where e.scope in ('subject', 'device') and s.issuer = x.id and s.sub = e.sub and ${ENDED}
            and ${mayBeOnDevice()}
          limit ${SESSIONS_MAX + 1})
        union all
        (select ${COLUMNS} from session_ids k
           cross join lateral (
             select * from sessions f
              where f.issuer = k.issuer and f.sub = k.sub and f.sid = k.sid and f.client_id = k.client_id offset 0) s
          where e.scope = 'session' and k.issuer = x.id and k.sid = e.sid and ${ENDED}
          limit ${SESSIONS_MAX + 1})
        union all
        (select ${COLUMNS} from (${linkedSessionsOfEvent('f.*')}) s
          where ${ENDED} and ${mayBeOnDevice()}
          limit ${SESSIONS_MAX + 1})
      ) found offset 0
    ) s
   where coalesce(i.session_index, 'partial') <> 'off'
   group by e.id, s.client_id`

interface SessionsRow {
  readonly eventId: string
  readonly clientId: string
  readonly orphaned: boolean
  readonly endAt: Date | null
  readonly tooMany: boolean
}

// An endpoint that was registered after the event was planned got no delivery of it.
const CLIENTS = `
  select g.event_id as "eventId", g.client_id as "clientId", p.client_name as "clientName",
         coalesce(${HAD_PARTY}, false) as registered,
         exists (select from bindings b where b.relying_party_id = p.id and b.revision <= e.registry_revision) as "hadEndpoint",
         exists (select from bindings b where b.relying_party_id = p.id and b.registered and p.deleted_at is null) as "hasEndpoint",
         e.plan_basis = 'sessions' and ${knowsAll('i', 'x')} as "indexComplete"
    from unnest($1::uuid[], $2::text[]) as g(event_id, client_id)
    join events e on e.id = g.event_id
    left join session_issuers x on x.iss = e.iss
    left join issuers i on i.iss = e.iss
    left join relying_parties p on p.issuer = i.name and p.client_id = g.client_id`

interface ClientKey {
  readonly eventId: string
  readonly clientId: string
}
type ClientRow = Omit<WithoutDelivery, 'sessions'> & ClientKey

/**
 * Finds the clients that events are about and that get no delivery of them. Such a client holds a session that the event ends, the
 * event names it, or it started the logout. Makes one or two statements for any number of events.
 *
 * @param found events with all deliveries, or with those of the clients that the caller may see. An event may come several times.
 * @returns the clients of each item of `found`, in order.
 */
export async function findUnnotified(
  db: Database,
  found: readonly FoundEvent[],
): Promise<readonly UnnotifiedClients[]> {
  const ids = [...new Set(found.map(({ event }) => event.id))]
  const { rows } = await db.query<SessionsRow>({
    name: 'sessions_without_delivery',
    text: SESSIONS,
    values: [plainArray(ids)],
  })
  const sessions = Map.groupBy(rows, ({ eventId }) => eventId)
  const asked = found.map(({ event, deliveries }) => {
    const held = sessions.get(event.id) ?? []
    return { event, held, clientIds: candidatesOf({ event, deliveries }, held) }
  })
  const clients = await readClients(
    db,
    asked.flatMap(({ event, clientIds }) => clientIds.map((clientId) => ({ eventId: event.id, clientId }))),
  )
  return asked.map(({ event, held, clientIds }) => {
    const own = clientIds.flatMap((clientId) => clients.get(keyOf({ eventId: event.id, clientId })) ?? [])
    return unnotifiedOf(event, own, held)
  })
}

/** The clients without a delivery that the event may be about. */
function candidatesOf({ event, deliveries }: FoundEvent, held: readonly SessionsRow[]): readonly string[] {
  const skipped = skippedInitiator(event)
  const clients = new Set([
    ...held.map(({ clientId }) => clientId),
    ...(event.clients ?? []),
    ...(skipped === null ? [] : [skipped]),
  ])
  for (const { clientId } of deliveries) clients.delete(clientId)
  return [...clients].toSorted()
}

/** The client that is skipped because it started the logout; null if none is. */
function skippedInitiator({ initiator, includeInitiator, clients }: EventRecord): string | null {
  if (initiator === null || includeInitiator) return null
  return clients === null || clients.includes(initiator) ? initiator : null
}

const keyOf = ({ eventId, clientId }: ClientKey) => `${eventId} ${clientId}`

async function readClients(
  db: Database,
  keys: readonly ClientKey[],
): Promise<ReadonlyMap<string, ClientRow>> {
  if (keys.length === 0) return new Map()
  const { rows } = await db.query<ClientRow>({
    name: 'clients_without_delivery',
    text: CLIENTS,
    values: [plainArray(keys.map(({ eventId }) => eventId)), keys.map(({ clientId }) => clientId)],
  })
  return new Map(rows.map((row) => [keyOf(row), row]))
}

function unnotifiedOf(
  event: EventRecord,
  clients: readonly ClientRow[],
  sessions: readonly SessionsRow[],
): UnnotifiedClients {
  const held = new Map(sessions.map((row) => [row.clientId, row]))
  const initiator = skippedInitiator(event)
  const isSkipped = ({ clientId }: ClientRow) => clientId === initiator && !held.has(clientId)
  return {
    clients: unnotifiedAmong(
      clients
        .filter((client) => !isSkipped(client))
        .map((client) => ({ ...client, sessions: held.get(client.clientId) ?? null })),
    ),
    initiator: clients.find(isSkipped) ?? null,
    complete: !sessions.some(({ tooMany }) => tooMany),
  }
}
