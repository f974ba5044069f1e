-- The event log in PostgreSQL. A record lives from its append to its commit: consuming deletes it.
create table log_records (
  lane         text not null check (lane in ('interactive', 'bulk')),
  partition    smallint not null,
  position     bigint generated always as identity,
  key          text not null,
  value        bytea not null,
  -- Kept as it came: nothing looks inside.
  headers      json not null,
  appended_at  timestamptz not null default now(),
  primary key (lane, partition, position)
) with (
  -- Every row dies young, so the dead are cleared away early and often. It is the index that matters: a fetch that
  -- starts at the lowest position steps over every dead entry that lies there.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000
);

-- Records that could not be understood. Nobody is owed anything yet; a person decides.
create table quarantined_records (
  id              bigint generated always as identity primary key,
  lane            text not null,
  -- Where it lay in the log: partition and position.
  log_position    text not null,
  key             text not null,
  value           bytea not null,
  headers         json not null,
  reason          text not null,
  quarantined_at  timestamptz not null default now(),
  -- A commit that is repeated after a lost answer puts it here once.
  unique (lane, log_position)
);
