-- Logout audits: synthetic sessions that show whether a logout ends them. No column names a subject: only the event of an audit does.

-- How to make and check a session of a test user at one relying party, and when.
create table logout_audit_setups (
  issuer               text not null,
  client_id            text not null,
  -- As the API has them, without secrets.
  settings             jsonb not null,
  -- The secrets as a compact JWE under the master key; null if the set-up has none.
  sealed_secrets       text,
  -- The time between two audits, in seconds; null: by hand only.
  every_s              integer check (every_s between 300 and 2678400),
  next_due_at          timestamptz,
  scheduled_since      timestamptz,
  -- The last audit with a result, other than inconclusive. It outlives the audit's own row.
  last_result          text check (last_result in ('passed', 'failed')),
  last_concluded_at    timestamptz,
  -- Those of the last passed audit.
  last_passed_at       timestamptz,
  last_propagation_ms  integer check (last_propagation_ms >= 0),
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  primary key (issuer, client_id),
  foreign key (issuer, client_id) references relying_parties (issuer, client_id),
  constraint due_exactly_with_a_schedule check (
    (every_s is null) = (next_due_at is null) and (every_s is null) = (scheduled_since is null)),
  constraint concluded_exactly_with_a_result check ((last_result is null) = (last_concluded_at is null))
);
create index logout_audit_setups_due on logout_audit_setups (next_due_at) where next_due_at is not null;

create table logout_audits (
  -- A UUIDv7: lists are in the order of the requests.
  id               uuid primary key,
  issuer           text not null,
  client_id        text not null,
  trigger          text not null check (trigger in ('request', 'schedule')),
  -- The name of the credential, or `bookkeeper`.
  requested_by     text not null,
  requested_at     timestamptz not null default now(),
  state            text not null default 'waiting' check (state in ('waiting', 'running', 'ended')),
  -- The bookkeeper that runs it. It extends its lease; an audit whose lease ran out has lost its bookkeeper.
  leased_by        uuid,
  leased_until     timestamptz,
  started_at       timestamptz,
  ended_at         timestamptz,
  -- The id that the logout event has in the API, stored before the event is posted.
  event_id         uuid,
  accepted_at      timestamptz,
  -- From acceptance to the first answer that says logged out.
  propagation_ms   integer check (propagation_ms >= 0),
  result           text check (result in ('passed', 'failed', 'inconclusive')),
  reason           text check (reason ~ '^[a-z_]+$'),
  -- The state of the deliveries of the event, when the audit ended; null if none was planned.
  delivery_state   text check (delivery_state in ('pending', 'acknowledged', 'superseded', 'lapsed', 'dead_lettered')),
  delivery_level   text check (delivery_level in ('done', 'partial', 'received', 'begun', 'unconfirmable')),
  -- The result in words, and the numbers behind it, as the API has them.
  findings         jsonb,
  constraint leased_exactly_while_running check ((state = 'running') = (leased_by is not null and leased_until is not null)),
  constraint ended_exactly_with_a_result check ((state = 'ended') = (result is not null) and (state = 'ended') = (ended_at is not null)),
  constraint reason_unless_passed check (result is null or (result = 'passed') = (reason is null)),
  constraint level_only_when_acknowledged check (delivery_level is null or delivery_state = 'acknowledged')
);
-- One audit of a relying party at a time, whichever bookkeeper runs it.
create unique index logout_audits_unended on logout_audits (issuer, client_id) where ended_at is null;
create index logout_audits_waiting on logout_audits (requested_at) where state = 'waiting';
create index logout_audits_running on logout_audits (leased_until) where state = 'running';
create index logout_audits_of_client on logout_audits (issuer, client_id, id);
-- Retention, in batches.
create index logout_audits_ended on logout_audits (ended_at) where ended_at is not null;
