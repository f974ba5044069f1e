import type { BindingId } from '@curfew/domain'
import { deliveriesOf } from '../history/event-ranges.ts'
import type { Projector } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'

/** SQL: the key of an entry. @param kind `sid` or `sub`. */
const keyOf = (iss: string, kind: string, value: string) => `
  substr(sha256(convert_to(${iss}, 'UTF8') || '\\x00'::bytea || '${kind}'::bytea || '\\x00'::bytea
    || convert_to(${value}, 'UTF8') || '\\x00'::bytea), 1, 16)`

// Only a logout that is owed to a binding which can name anything makes entries: an issuer without a resource server has no feed, and
// a logout for named clients cuts off no others. The deliveries of a logout name the sessions and the other names of its subject that
// the session index knew. A device logout of unknown sessions cuts off all tokens of the subject, because no token names a device.
const PROJECT = `
  with owed as (
    select distinct e.id, e.iss, e.sub, e.sid, e.scope, floor(extract(epoch from e.occurred_at))::bigint as before,
           i.max_token_ttl, i.widen_to_subject
      from unnest($1::uuid[]) as owed(id)
      join deliveries d on d.id = owed.id
      join events e on e.id = d.event_id and e.erased_at is null
      join issuers i on i.iss = e.iss
  ),
  named as (
    select o.id, d.sid, d.sub
      from owed o
     cross join lateral (
       select w.sid, w.sub from deliveries w
        where w.id between ${deliveriesOf('o.id').lowest} and ${deliveriesOf('o.id').highest} and w.event_id = o.id
          and (w.sid is not null or w.sub is not null) offset 0
     ) d
  ),
  keys as (
    select id, ${keyOf('iss', 'sid', 'sid')} as key from owed where scope = 'session'
    union
    select o.id, ${keyOf('o.iss', 'sid', 'n.sid')} from owed o join named n using (id) where n.sid is not null
    union
    select id, ${keyOf('iss', 'sub', 'sub')} from owed
     where sub is not null
       and (scope = 'subject' or scope = 'session' and widen_to_subject
        or scope = 'device' and not exists (select from named n where n.id = owed.id and n.sid is not null))
    union
    select o.id, ${keyOf('o.iss', 'sub', 'n.sub')} from owed o join named n using (id)
     where n.sub is not null and (o.scope = 'subject' or o.scope = 'session' and o.widen_to_subject)
    union
    select id, null from owed where scope = 'issuer'
  ),
  fresh as (
    select o.iss, k.key, o.before, o.id, o.max_token_ttl,
           row_number() over (partition by o.iss order by o.before, o.id, k.key) as place,
           count(*) over (partition by o.iss) as total
      from keys k join owed o using (id)
  ),
  numbered as (
    insert into cutoff_feeds as f (iss, seq, added)
    select iss, floor(extract(epoch from clock_timestamp()) * 1000)::bigint + max(total), max(total) from fresh group by iss
     order by iss
    on conflict (iss) do update set seq = greatest(f.seq + excluded.added, excluded.seq), added = excluded.added
    returning iss, seq
  )
  insert into cutoffs (iss, seq, key, before, event_id, expires_at)
  select f.iss, n.seq - f.total + f.place, f.key, f.before, f.id, to_timestamp(f.before + f.max_token_ttl)
    from fresh f join numbered n using (iss)`

// The bindings that can name anything: those of resource servers.
const WHOLE = `
  select b.id from bindings b where b.id = any($1::bigint[]) and b.names = 'any'`

/** Makes the entries of the planned logouts that are owed to a resource server. */
export const projectCutoffs: Projector = async (transaction, entries) => {
  const owed = entries.flatMap((entry) => (entry.kind === 'planned' ? entry.owed : []))
  if (owed.length === 0) return
  const { rows } = await transaction.query<{ id: BindingId }>({
    name: 'whole_bindings',
    text: WHOLE,
    values: [plainArray([...new Set(owed.map(({ bindingId }) => bindingId))])],
  })
  if (rows.length === 0) return
  const whole = new Set(rows.map(({ id }) => id))
  const ids = [...new Set(owed.filter(({ bindingId }) => whole.has(bindingId)).map(({ id }) => id))]
  await transaction.query({ name: 'project_cutoffs', text: PROJECT, values: [plainArray(ids)] })
}
