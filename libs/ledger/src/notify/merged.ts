/** Most ids or clients that a notification names of all that it counts. */
export const NAMED_MAX = 5

/**
 * SQL: the parts of a `with` that write notifications from the rows of `fresh`, one for each value of `members` and window. So a
 * million dead letters make few messages. A notification that still waits in its window absorbs the new rows with its `members`.
 *
 * The columns of `fresh`: issuer, binding_id, members (jsonb: the part of its data that identifies it), count, oldest, newest and
 * named (text[]).
 *
 * @param list the member of the notification's data that lists the names.
 * @param windowMs the SQL parameter with the length of the window, in milliseconds.
 */
export function mergedNotifications({
  type,
  list,
  windowMs,
}: {
  type: string
  list: string
  windowMs: string
}): string {
  return `added as (
    update notifications n
       set data = n.data || jsonb_build_object(
             'count', (n.data ->> 'count')::bigint + f.count,
             'oldest', least((n.data ->> 'oldest')::timestamptz, f.oldest),
             'newest', greatest((n.data ->> 'newest')::timestamptz, f.newest),
             '${list}', (
               select to_jsonb((array_agg(name order by place))[1:${NAMED_MAX}])
                 from (
                   select name, min(place) as place
                     from jsonb_array_elements_text(n.data -> '${list}' || to_jsonb(f.named)) with ordinality as e(name, place)
                    group by name
                 ) names))
      from fresh f
     where n.type = '${type}' and n.data @> f.members and n.fanned_out_at is null and n.ready_at > clock_timestamp()
    returning f.members
  ),
  written as (
    insert into notifications (type, issuer, binding_id, occurred_at, ready_at, data)
    select '${type}', f.issuer, f.binding_id, f.oldest,
           clock_timestamp() + make_interval(secs => ${windowMs}::float8 / 1000),
           f.members || jsonb_build_object('count', f.count, 'oldest', f.oldest, 'newest', f.newest, '${list}', f.named)
      from fresh f
     where not exists (select from added a where a.members = f.members)
  )`
}
