-- The choice of the event log, the event log in PostgreSQL, and the quarantine of records from either event log.

-- The event log that all services of this ledger use. A service that appends to another event log accepts logouts that no worker reads.
create table event_logs (
  -- `PostgreSQL`, or the Kafka cluster and its topics.
  name     text primary key,
  -- True for the event log in use. The other rows are event logs that a service tried to use.
  chosen   boolean not null,
  -- The last service that tried to use the event log. In the chosen row: the first service of all, which chose it, or the user of
  -- `curfew event-log use`.
  used_by  text not null,
  used_at  timestamptz not null default now(),
  -- The id of the ledger, which each commit in Kafka names. The chosen row has it, and the choice that replaces the row keeps it.
  ledger   uuid not null default gen_random_uuid(),
  -- In the chosen row: when `curfew event-log use` took the topics over from other ledgers; null if it did not.
  taken_at timestamptz
);
create unique index event_logs_chosen on event_logs (chosen) where chosen;

-- The event log in PostgreSQL. Consuming a record deletes it.
create table log_records (
  -- Session starts and ends have their own lane, so that a storm of logins never delays a logout.
  lane         text not null check (lane in ('interactive', 'bulk', 'sessions')),
  partition    smallint not null,
  position     bigint generated always as identity,
  key          text not null,
  value        bytea not null,
  -- json, not jsonb: it keeps the text as received, and no statement looks inside.
  headers      json not null,
  appended_at  timestamptz not null default now(),
  primary key (lane, partition, position)
) with (
  -- Rows are short-lived, so autovacuum clears dead rows early and often. Otherwise a fetch, which starts at the lowest position,
  -- steps over many dead index entries.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000
);

-- Accepted records that could not be planned or applied, and the decision about each. No delivery is owed until a person decides.
create table quarantined_records (
  id              bigint generated always as identity primary key,
  lane            text not null,
  -- The place in the event log: partition and position.
  log_position    text not null,
  -- UTF-8. Type text cannot hold a NUL, and the quarantine must take every record.
  key             bytea not null,
  -- Only the beginning of a value that is too large.
  value           bytea not null,
  -- The length and the SHA-256 of the whole value.
  value_bytes     bigint not null,
  value_sha256    bytea not null,
  headers         json not null,
  -- Whether value, key or headers are incomplete. Such a record cannot be requeued.
  cut_short       boolean not null,
  -- Why the record is in quarantine, for programs; `reason` is for people.
  kind            text not null check (kind in ('unreadable', 'conflict', 'refused', 'unverified', 'forged')),
  reason          text not null,
  -- The issuer and the event, if every part of the record that names one agrees; else null.
  iss             text,
  event_id        uuid,
  quarantined_at  timestamptz not null default now(),
  -- When the bookkeeper wrote the notification about the record.
  noticed_at      timestamptz,
  state           text not null default 'waiting' check (state in ('waiting', 'requeue_requested', 'requeued', 'dismissed')),
  -- The name of the credential that requested the requeue or dismissed the record.
  decided_by      text,
  decided_at      timestamptz,
  -- Why the event log refused the record when it was last appended again; null if it did not.
  requeue_error   text,
  constraint decided_exactly_unless_waiting check (
    (state = 'waiting') = (decided_at is null) and (decided_at is null) = (decided_by is null)),
  constraint cut_short_stays check (not cut_short or state in ('waiting', 'dismissed')),
  -- A repeated commit writes a record once. The position alone does not name a record: a topic that was deleted and created
  -- again counts from 0.
  constraint quarantined_records_once unique (lane, log_position, value_sha256)
);
-- The count of waiting records.
create index quarantined_records_waiting on quarantined_records (lane) where state = 'waiting';
-- The work of the bookkeeper.
create index quarantined_records_unnoticed on quarantined_records (id) where noticed_at is null;
create index quarantined_records_requests on quarantined_records (decided_at) where state = 'requeue_requested';
-- Retention.
create index quarantined_records_decided on quarantined_records (decided_at) where state in ('requeued', 'dismissed');
create index quarantined_records_old_sessions on quarantined_records (quarantined_at)
  where lane = 'sessions' and state = 'waiting';
-- Lists of one issuer, and searches for one event.
create index quarantined_records_of_issuer on quarantined_records (iss, id);
create index quarantined_records_of_event on quarantined_records (event_id) where event_id is not null;
