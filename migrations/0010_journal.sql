-- What the bookkeeper has yet to enter into its books: rollups, receipts, who still holds a session.
--
-- A row is written by the statement that plans or settles, for all that it plans or settles, and deleted when it was
-- entered. So nothing is entered twice or missed, and whoever plans and settles pays for one row however large the batch.
create table journal (
  id            bigint generated always as identity primary key,
  kind          text not null check (kind in ('planned', 'settled')),
  at            timestamptz not null,
  -- Planned: events that are new. Settled: empty, for the deliveries say it.
  event_ids     uuid[] not null,
  -- Planned: what is owed since. Settled: what is owed no more, and beside it in `states` how it ended.
  delivery_ids  uuid[] not null,
  states        text[] not null,
  -- Settled: how often each had been replayed before it ended so.
  generations   smallint[] not null,
  constraint ends_of_settled check (
    cardinality(states) = case kind when 'settled' then cardinality(delivery_ids) else 0 end
    and cardinality(generations) = cardinality(states))
) with (
  -- Every row dies young, as in the event log.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0
);

-- Entries of the journal that one poster failed at: the others have entered them, and go on with what follows.
create table journal_left (
  poster         text not null,
  id             bigint not null,
  kind           text not null,
  at             timestamptz not null,
  event_ids      uuid[] not null,
  delivery_ids   uuid[] not null,
  states         text[] not null,
  generations    smallint[] not null,
  -- When it failed by itself, the last time: what has not, goes first.
  failed_at      timestamptz not null default '-infinity',
  primary key (poster, id)
);
create index journal_left_next on journal_left (poster, failed_at, id);
