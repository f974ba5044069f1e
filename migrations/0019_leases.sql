-- Leases: which deliveries a worker may settle.

-- One row for each statement that leases deliveries to a worker, written by that statement. A delivery that is in flight is
-- therefore always listed here, under the worker and the time that the delivery itself names. The rows of a worker that is gone,
-- and those that a worker does not know of, are found without a search by age. A row goes when none of its deliveries is held.
create table leases (
  worker_id     uuid not null,
  -- Counted by the worker, which knows the number before the statement is sent.
  number        bigint not null,
  -- The same as `leased_at` of the deliveries: with the worker, it tells this lease of a delivery from a later one.
  leased_at     timestamptz not null,
  delivery_ids  uuid[] not null,
  primary key (worker_id, number)
) with (
  -- Every row dies young, as in the journal.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0
);
-- Ids hardly compress, and every row is read once.
alter table leases alter column delivery_ids set storage external;

insert into leases (worker_id, number, leased_at, delivery_ids)
  select leased_by, -row_number() over (order by leased_by, leased_at), leased_at, array_agg(id)
    from deliveries
   where state = 'in_flight'
   group by leased_by, leased_at;

-- Only the search for the leases of the dead used it.
drop index deliveries_leased;
