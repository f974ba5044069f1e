// A pairwise client knows a user by a `sub` of its own (OpenID Connect Core section 8.1). Sessions that share a `sid` are sessions of
// one user, so they connect the names of that user. Only issuers with pairwise clients pay for the search.
//
// A public client's session under another `sub` may be another user's, who signed in with the same `sid`. So a public `sub` leads
// only to pairwise ones. A pairwise `sub` leads to public ones too: no public client knows the user by it.

/** SQL: whether an issuer has pairwise clients. @param issuer alias of a row of `issuers`. */
export const hasPairwise = (issuer = 'i') =>
  `(${issuer}.subject_type = 'pairwise' or exists (
     select from relying_parties r where r.issuer = ${issuer}.name and r.subject_type = 'pairwise'))`

/** SQL: whether a client is pairwise. @param client SQL: its `client_id`. @param issuer alias of its issuer's row of `issuers`. */
export const isPairwise = (client: string, issuer: string) =>
  `coalesce((select r.subject_type from relying_parties r where r.issuer = ${issuer}.name and r.client_id = ${client}), ${issuer}.subject_type)
    = 'pairwise'`

/** SQL expressions for a search. */
interface Start {
  /** The issuer's number in the index. */
  readonly index: string
  /** Alias of the issuer's row of `issuers`. */
  readonly issuer?: string
  readonly sub: string
  /** A session of the subject, or null. */
  readonly sid: string
  /** A client that knows the user by `sub`, or null. */
  readonly client: string
  /** Whether to search at all. */
  readonly when: string
  /**
   * Most names and sids that the search visits. An IdP that posts one `sid` for all its users would otherwise make the work of all
   * issuers wait for a search through all of them. Default: 1,000.
   */
  readonly most?: number
}

/**
 * SQL: a query of the names of one user: `sub`, and `client_id` if only that client knows the user by it. The first is `sub` itself.
 * No rows if `when` is false.
 *
 * The search steps from a name to its sids, and from a sid to its names. `union` drops repeated rows, so each is visited once. A
 * limit ends a recursion early (PostgreSQL, `WITH` queries): the nearest names are found first.
 */
export const namesOfUser = ({ index, issuer = 'i', sub, sid, client, when, most = 1_000 }: Start) => `
  with recursive hidden as materialized (
    select coalesce(
             (select bool_and(${isPairwise('s.client_id', issuer)}) from sessions s where s.issuer = ${index} and s.sub = ${sub}),
             case when ${client} is not null then ${isPairwise(client, issuer)} end, false) as is
     where ${when}
  ),
  walked as (
    select ${sub} as sub, case when hidden.is then ${client} end as client_id, null::text as sid from hidden
    union
    select step.sub, step.client_id, step.sid
      from walked w
     cross join lateral (
       select null as sub, null as client_id, s.sid from sessions s
        where w.sid is null and s.issuer = ${index} and s.sub = w.sub and (w.client_id is null or s.client_id = w.client_id)
       union all
       select null, null, ${sid} where w.sid is null and w.sub = ${sub} and ${sid} is not null
       union all
       select k.sub, case when k.pairwise then k.client_id end, null
         from (
           select d.sub, d.client_id, ${isPairwise('d.client_id', issuer)} as pairwise
             from session_ids d where w.sid is not null and d.issuer = ${index} and d.sid = w.sid offset 0
         ) k
        where k.pairwise or (select hidden.is from hidden)
     ) step
  )
  select near.sub, near.client_id from (select * from walked limit ${most}) near where near.sub is not null`

/**
 * SQL: a query of the sessions of a user under other names than `sub`. No rows if `when` is false.
 *
 * @param columns SQL: the columns of a session `f`.
 */
export const linkedSessions = (columns: string, start: Start) => `
  select ${columns}
    from (${namesOfUser(start)}) n
   cross join lateral (
     select * from sessions s
      where s.issuer = ${start.index} and s.sub = n.sub and (n.client_id is null or s.client_id = n.client_id) offset 0
   ) f
   where f.sub <> ${start.sub}`

/**
 * SQL: a query of the sessions of an event's user under other names. A part of an issuer logout is about one name only.
 *
 * @param columns SQL: the columns of a session `f`. The event is `e`, its issuer's row `i`, and its issuer's number in the index `x.id`.
 */
export const linkedSessionsOfEvent = (columns: string) =>
  linkedSessions(columns, {
    ...{ index: 'x.id', sub: 'e.sub', sid: 'e.sid', client: 'e.relayed_for' },
    when: `e.scope in ('subject', 'device') and e.parent_id is null and ${hasPairwise()}`,
  })
