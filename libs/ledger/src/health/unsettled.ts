import type { Database } from '../postgres/database.ts'

// Unsettled deliveries, dead letters and open breakers, by client. A reading costs a bounded number of rows, whatever the backlog: it
// finds the bindings and their oldest deliveries by loose index scans, and counts up to a limit.

/** The number of clients that are listed. The others are summed under the name `REST`. */
const LISTED = 50
/** The issuer and client id of the sum of the clients that are not listed. */
const REST = '(rest)'
/** Most rows that one statement counts for the listed clients, and for the others. Each binding is counted to its share. */
const COUNTED = 50_000
const COUNTED_OF_BINDING = { min: 10, max: 10_000 }
/** Most leases and leased deliveries that one reading looks up, the oldest leases first. */
const LEASES = 1_000
const LEASED = 10_000

/** SQL: the limit to which one of `peers` bindings is counted. */
const shareOf = (peers: string) =>
  `least(${COUNTED_OF_BINDING.max}, greatest(${COUNTED_OF_BINDING.min}, ${COUNTED} / ${peers}))`

/** The unsettled deliveries of one client, or of the clients that are not listed. */
export interface Unsettled {
  /** The short name of the issuer, or `(rest)`. */
  readonly issuer: string
  readonly clientId: string
  /** Deliveries that are not settled, at least: a long queue is counted in part. */
  readonly deliveries: number
  /** Seconds since the oldest of them in the interactive lane was accepted; null without one. */
  readonly oldestSeconds: number | null
}

// A delivery in flight is pending in no index. It is found by its lease: otherwise the oldest delivery of a dead relying party would
// vanish during each of its attempts. A lease may list deliveries that are settled already.
const UNSETTLED = `
  with recursive waiting as (
    (select binding_id, lane, planned_at, id from deliveries
      where due_at is not null order by binding_id, lane, planned_at limit 1)
    union all
    select later.*
      from waiting w
     cross join lateral (
       select d.binding_id, d.lane, d.planned_at, d.id from deliveries d
        where d.due_at is not null and (d.binding_id, d.lane) > (w.binding_id, w.lane)
        order by d.binding_id, d.lane, d.planned_at limit 1
     ) later
  ),
  leased as materialized (
    select d.*
      from (
        select distinct id
          from (select delivery_ids from leases order by leased_at limit ${LEASES}) oldest
         cross join lateral unnest(delivery_ids) as id
         limit ${LEASED}
      ) listed
     cross join lateral (
       select binding_id, lane, planned_at, id from deliveries where id = listed.id and state = 'in_flight' offset 0
     ) d
  ),
  queues as materialized (
    select binding_id, min(planned_at) as since, count(*) filter (where not pending) as leased, bool_or(pending) as pending,
           min(planned_at) filter (where lane = 'interactive') as interactive_since,
           (array_agg(id order by planned_at) filter (where lane = 'interactive'))[1] as interactive
      from (select *, true as pending from waiting union all select *, false from leased) each
     group by binding_id
  ),
  clients as (
    select p.issuer, p.client_id, array_agg(q.binding_id) filter (where q.pending) as pending, sum(q.leased)::bigint as leased,
           min(q.interactive_since) as interactive_since,
           (array_agg(q.interactive order by q.interactive_since))[1] as interactive,
           row_number() over (order by min(q.interactive_since) nulls last, min(q.since)) <= ${LISTED} as is_listed
      from queues q
      join bindings b on b.id = q.binding_id
      join relying_parties p on p.id = b.relying_party_id
     group by p.id
  ),
  counted as (
    select c.*, c.leased + (
             select count(*)
               from unnest(c.pending) as binding(id)
              cross join lateral (
                select from deliveries d where d.binding_id = binding.id and d.due_at is not null limit ${shareOf('c.peers')}
              ) d
           ) as deliveries
      from (select *, sum(cardinality(pending)) over (partition by is_listed)::int as peers from clients) c
  ),
  shown as (
    select case when is_listed then issuer else '${REST}' end as issuer,
           case when is_listed then client_id else '${REST}' end as client_id,
           sum(deliveries)::bigint as deliveries,
           (array_agg(interactive order by interactive_since nulls last))[1] as interactive
      from counted group by 1, 2
  )
  select s.issuer, s.client_id as "clientId", s.deliveries,
         greatest(0, extract(epoch from now() - oldest.accepted_at))::float8 as "oldestSeconds"
    from shown s
    left join lateral (
      select e.accepted_at from deliveries d join events e on e.id = d.event_id where d.id = s.interactive
    ) oldest on true`

/** Reads the clients that have deliveries to settle: the 50 with the oldest, and the sum of the others. */
export async function readUnsettled(db: Database): Promise<readonly Unsettled[]> {
  const { rows } = await db.query<Unsettled>({ name: 'read_unsettled', text: UNSETTLED })
  return rows
}

/** The dead letters of one client, or of the clients that are not listed. */
export interface Dead {
  readonly issuer: string
  readonly clientId: string
  /** Dead letters that are not replayed, at least: many are counted in part. */
  readonly deadLetters: number
}

const countDead = (binding: string, peers: string) => `
  select count(*) as letters
    from (
      select from deliveries d where d.binding_id = ${binding} and d.dead_lettered_at is not null limit ${shareOf(peers)}
    ) d`

// Two rounds: the first finds the clients with the most, the second counts these further.
const DEAD = `
  with recursive dead as (
    (select binding_id from deliveries where dead_lettered_at is not null order by binding_id limit 1)
    union all
    select later.binding_id
      from dead
     cross join lateral (
       select d.binding_id from deliveries d
        where d.dead_lettered_at is not null and d.binding_id > dead.binding_id order by d.binding_id limit 1
     ) later
  ),
  clients as (
    select p.issuer, p.client_id, array_agg(dead.binding_id) as bindings,
           row_number() over (order by sum(counted.letters) desc, p.issuer, p.client_id) <= ${LISTED} as is_listed
      from dead
      join bindings b on b.id = dead.binding_id
      join relying_parties p on p.id = b.relying_party_id
     cross join lateral (${countDead('dead.binding_id', '(select greatest(count(*), 1) from dead)')}) counted
     group by p.id
  ),
  counted as (
    select c.*, (
             select sum(letters)
               from unnest(c.bindings) as binding(id)
              cross join lateral (${countDead('binding.id', 'c.peers')}) d
           ) as letters
      from (select *, sum(cardinality(bindings)) over (partition by is_listed)::int as peers from clients) c
  )
  select case when is_listed then issuer else '${REST}' end as issuer,
         case when is_listed then client_id else '${REST}' end as "clientId",
         sum(letters)::bigint as "deadLetters"
    from counted group by 1, 2`

/** Reads the clients that have dead letters: the 50 with the most, and the sum of the others. */
export async function readDead(db: Database): Promise<readonly Dead[]> {
  const { rows } = await db.query<Dead>({ name: 'read_dead', text: DEAD })
  return rows
}

/** The open breakers of one channel of a client, or of the channels that are not listed. */
export interface OpenBreakers {
  readonly issuer: string
  readonly clientId: string
  readonly channel: string
  /** Live workers that have the breaker of an endpoint of the channel open. */
  readonly workers: number
}

const BREAKERS = `
  with channels as (
    select p.issuer, p.client_id, b.kind, count(distinct w.id) as workers, min(o.opened_at) as since
      from breakers o
      join workers w on w.id = o.worker_id and w.seen_at > now() - interval '30 seconds'
      join bindings b on b.id = o.binding_id
      join relying_parties p on p.id = b.relying_party_id
     group by p.issuer, p.client_id, b.kind
  ),
  ranked as (select *, row_number() over (order by since, issuer, client_id, kind) as place from channels)
  select case when place <= ${LISTED} then issuer else '${REST}' end as issuer,
         case when place <= ${LISTED} then client_id else '${REST}' end as "clientId",
         case when place <= ${LISTED} then kind else '${REST}' end as channel,
         sum(workers)::bigint as workers
    from ranked group by 1, 2, 3`

/** Reads the channels with open breakers: the 50 that opened first, and the sum of the others. */
export async function readOpenBreakers(db: Database): Promise<readonly OpenBreakers[]> {
  const { rows } = await db.query<OpenBreakers>({ name: 'read_open_breakers', text: BREAKERS })
  return rows
}
