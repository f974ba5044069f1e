-- The journal that projectors follow, the mark of published outcomes, and the bookkeepers that project and publish.

-- Changes that the bookkeeper has yet to project: into SLA rollups, receipts, session state and job counters.
--
-- The statement that plans or settles writes one row for all its deliveries, and the transaction that projects the row deletes it.
-- Each change is therefore projected exactly once, and a plan or settlement costs one row, however large its batch.
create table journal (
  id            bigint generated always as identity primary key,
  kind          text not null check (kind in ('planned', 'settled')),
  at            timestamptz not null,
  -- Planned: the new events. Settled: empty, because the deliveries name them.
  event_ids     uuid[] not null,
  -- Planned: the new deliveries. Settled: the deliveries that ended.
  delivery_ids  uuid[] not null,
  -- Facts about each delivery, so that projectors need not look it up. The arrays run parallel to delivery_ids.
  binding_ids   bigint[] not null,
  -- When the event was accepted, in milliseconds since 1970; null in the bulk lane, which has no SLA.
  accepted_ms   bigint[] not null,
  -- Settled: how the delivery ended.
  states        text[] not null,
  -- Settled: the level of each acknowledgement; null where the delivery ended otherwise.
  levels        text[] not null,
  -- Settled: how often the delivery had been replayed before.
  generations   integer[] not null,
  constraint facts_of_each check (
    cardinality(binding_ids) = cardinality(delivery_ids) and cardinality(accepted_ms) = cardinality(delivery_ids)),
  constraint ends_of_settled check (
    cardinality(states) = case kind when 'settled' then cardinality(delivery_ids) else 0 end
    and cardinality(levels) = cardinality(states) and cardinality(generations) = cardinality(states))
) with (
  -- Rows are short-lived, as in the event log.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0
);

-- Journal entries at which one projector failed. The other projectors have projected them and continue with later entries.
create table journal_left (
  -- The projector.
  projector         text not null,
  -- From here on as in `journal`.
  id             bigint not null,
  kind           text not null,
  at             timestamptz not null,
  event_ids      uuid[] not null,
  delivery_ids   uuid[] not null,
  binding_ids    bigint[] not null,
  accepted_ms    bigint[] not null,
  states         text[] not null,
  levels         text[] not null,
  generations    integer[] not null,
  -- When the entry last failed on its own. Entries that have not failed on their own go first.
  failed_at      timestamptz not null default '-infinity',
  primary key (projector, id)
);
create index journal_left_next on journal_left (projector, failed_at, id);

-- One row at most: all acknowledgements recorded before until_at are published. No row until a consumer of outcomes is configured.
create table outcomes_published (
  only_row   boolean primary key default true check (only_row),
  until_at   timestamptz not null
);

-- Bookkeepers that send heartbeats. A row says that a bookkeeper is alive, and nothing depends on it but metrics and checks.
create table bookkeepers (
  id          uuid primary key,
  name        text not null,
  started_at  timestamptz not null default now(),
  seen_at     timestamptz not null default now()
);
