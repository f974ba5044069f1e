-- Counters that cannot overflow, and jobs that can end as failed.
--
-- A smallint ends at 32,767, and a statement that goes beyond it fails as a whole, for every delivery of its batch. An integer
-- takes centuries; the statements that count stop there instead of failing. `retries` and `refusals` stay smallint: they are
-- steps of a retry schedule, which has 32 at most.
--
-- `generation` moves to the end of the row, where it needs no padding: an acknowledged row then grows by 8 bytes in its page, to
-- 224, and not by 16. Few rows were ever replayed, so few are written here; widening `attempts` writes the table anew.
alter table deliveries rename column generation to generation_before;
alter table deliveries
  -- How often a person had it replayed.
  add column generation integer not null default 0;
update deliveries set generation = generation_before where generation_before > 0;
alter table deliveries
  drop column generation_before,
  add constraint deliveries_generation_check check (generation >= 0),
  add constraint replayed_by_a_job check (generation = 0 or replay_id is not null);
alter table deliveries
  -- POSTs made, quick retries among them.
  alter column attempts type integer;
-- Of the delivery that it belongs to: its first attempt has number 1.
alter table attempts alter column number type integer;
-- How often each delivery had been replayed when it was settled.
alter table journal alter column generations type integer[];
alter table journal_left alter column generations type integer[];
-- Claims, of which each may end in an attempt. A bookkeeper that is killed while it sends claims again without a settlement.
alter table webhook_deliveries alter column attempts type integer;

alter table replays
  -- Dead letters that matched, and how many were put back.
  alter column total type bigint,
  alter column done type bigint,
  -- Dead letters that the ledger refused to put back. They stay dead letters, and the job passes them over.
  add column refused uuid[] not null default '{}',
  -- Why the job failed, in words; null unless its state is `failed`.
  add column failure text,
  drop constraint replays_state_check,
  add constraint replays_state_check check (state in ('running', 'done', 'cancelled', 'failed')),
  add constraint failure_exactly_when_failed check ((state = 'failed') = (failure is not null));

alter table issuer_logouts
  -- Subjects counted, handed to the event log, and planned.
  alter column total type bigint,
  alter column taken type bigint,
  alter column planned type bigint,
  -- Why the job failed, in words; null unless its state is `failed`.
  add column failure text,
  drop constraint issuer_logouts_state_check,
  add constraint issuer_logouts_state_check check (state in ('running', 'done', 'cancelled', 'failed')),
  add constraint failure_exactly_when_failed check ((state = 'failed') = (failure is not null));

alter table erasures
  -- When the bookkeeper stopped looking, because it failed at the same place again and again. The same request, made again, resumes.
  add column failed_at timestamptz,
  -- Why it failed, in words; null unless it did.
  add column failure text,
  drop constraint looked_for_until_closed,
  add constraint looked_for_until_closed_or_failed check ((next_look_at is null) = (closed_at is not null or failed_at is not null)),
  add constraint failure_exactly_when_failed check ((failed_at is null) = (failure is null)),
  add constraint failed_or_closed check (failed_at is null or closed_at is null);
-- Rows erased so far, by kind.
alter table erasures
  alter column erased_events type bigint,
  alter column erased_deliveries type bigint,
  alter column erased_attempts type bigint,
  alter column erased_sessions type bigint,
  alter column erased_receipts type bigint,
  alter column erased_quarantined type bigint;
