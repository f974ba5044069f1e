-- The event log that all services of this ledger use. A service that appends to another one accepts logouts that no worker reads.
create table event_logs (
  -- `PostgreSQL`, or the Kafka cluster and its topics.
  name text primary key,
  -- True of the one to use. Another one is here because a service came with it.
  chosen boolean not null,
  -- The last service that came with it, while it was not the chosen one. The first service of all chooses.
  used_by text not null,
  used_at timestamptz not null default now()
);
create unique index event_logs_chosen on event_logs (chosen) where chosen;
