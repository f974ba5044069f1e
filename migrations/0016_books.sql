-- What the bookkeeper enters into its books, written down by whoever plans and settles: it need not be looked up delivery by
-- delivery.

alter table journal
  add column binding_ids bigint[],
  -- When the event of each delivery was accepted, in milliseconds since 1970; null in the bulk lane, of which nothing is
  -- promised.
  add column accepted_ms bigint[];
alter table journal_left add column binding_ids bigint[], add column accepted_ms bigint[];
-- A delivery that is gone has a binding that is nobody's: it is passed over.
update journal j
   set (binding_ids, accepted_ms) = (
     select coalesce(array_agg(coalesce(d.binding_id, 0) order by g.place), '{}'),
            coalesce(array_agg(case d.lane when 'interactive' then (extract(epoch from e.accepted_at) * 1000)::bigint end order by g.place), '{}')
       from unnest(j.delivery_ids) with ordinality as g(id, place)
       left join deliveries d using (id) left join events e on e.id = d.event_id);
update journal_left j
   set (binding_ids, accepted_ms) = (
     select coalesce(array_agg(coalesce(d.binding_id, 0) order by g.place), '{}'),
            coalesce(array_agg(case d.lane when 'interactive' then (extract(epoch from e.accepted_at) * 1000)::bigint end order by g.place), '{}')
       from unnest(j.delivery_ids) with ordinality as g(id, place)
       left join deliveries d using (id) left join events e on e.id = d.event_id);
alter table journal
  alter column binding_ids set not null,
  alter column accepted_ms set not null,
  add constraint facts_of_each check (
    cardinality(binding_ids) = cardinality(delivery_ids) and cardinality(accepted_ms) = cardinality(delivery_ids));
alter table journal_left alter column binding_ids set not null, alter column accepted_ms set not null;

-- Of the attempts that were made, what a receipt says: it stays when the history of attempts is dropped.
alter table deliveries
  add column first_attempt_at  timestamptz,
  -- Of the last attempt; null where there was no answer.
  add column status            smallint,
  -- SHA-256 of the token that was sent last. The token itself is kept nowhere.
  add column token_digest      bytea check (octet_length(token_digest) = 32);
-- Of all that is kept, as far as its attempts are: the audit holds receipts against it.
update deliveries d
   set first_attempt_at = a.first_attempt_at, status = a.status, token_digest = a.token_digest
  from (
    select distinct on (delivery_id) delivery_id, status, token_digest,
           case when count(*) over (partition by delivery_id) = number then min(started_at) over (partition by delivery_id) end as first_attempt_at
      from attempts order by delivery_id, number desc
  ) a
 where d.id = a.delivery_id;
alter table attempts drop column token_digest;
