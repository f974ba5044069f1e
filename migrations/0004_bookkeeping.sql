-- What the bookkeeper needs to replay at a pace and to forget in time.

alter table replays
  -- When the last batch was put back: the pace is the job's, however many bookkeepers there are.
  add column taken_at    timestamptz,
  -- How far the job has got, so that what it leaves alone is looked at once and not for each batch.
  add column reached_at  timestamptz,
  add column reached_id  uuid,
  add constraint reached_both_or_neither check ((reached_at is null) = (reached_id is null));

-- Finds what is too old. Events are planned in the order of time, so that it grows at its end only.
create index events_planned on events (planned_at, id);
