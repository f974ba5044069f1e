-- Operators are told of sessions that ought to be over and are not, each once for each time it came to that.

alter table sessions
  -- The orphaned_at that they were told of.
  add column orphan_told_at timestamptz;
create index sessions_orphans_untold on sessions (orphaned_at)
  where orphaned_at is not null and orphan_told_at is distinct from orphaned_at;
