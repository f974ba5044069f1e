-- The session index: who holds a session of whom, as the IdP says.

-- Issuers of whom a session was ever posted: of the others the index knows nothing, and every relying party is told. A number
-- each, for a row of a hundred million has no room for a URL.
create table session_issuers (
  id     integer generated always as identity primary key,
  iss    text not null unique,
  since  timestamptz not null default now()
);

-- By subject. One session of a client; a session of the IdP that several clients have part in is a row for each.
create table sessions (
  issuer           integer not null,
  sub              text not null,
  sid              text not null,
  client_id        text not null,
  -- Which device it is on, where the IdP says so.
  device           text,
  started_at       timestamptz not null,
  -- When it ends by itself.
  expires_at       timestamptz not null,
  -- The latest logout that covers it. Once the relying party has acknowledged that, the row goes.
  logout_event_id  uuid,
  -- Since when it ought to be over and is not, as far as anybody knows: its logout came to nothing.
  orphaned_at      timestamptz,
  -- The orphaned_at that operators were told of: each orphan once for each time it came to that.
  orphan_told_at   timestamptz,
  primary key (issuer, sub, sid, client_id),
  constraint orphaned_by_a_logout check (orphaned_at is null or logout_event_id is not null)
) partition by hash (issuer, sub);

-- The same by sid: no index of one table can serve both, for each lookup must lie in one partition.
create table session_ids (
  issuer      integer not null,
  sid         text not null,
  client_id   text not null,
  sub         text not null,
  started_at  timestamptz not null,
  expires_at  timestamptz not null,
  primary key (issuer, sid, client_id, sub)
) partition by hash (issuer, sid);

do $$
begin
  for number in 0..15 loop
    execute format('create table sessions_%s partition of sessions for values with (modulus 16, remainder %s)', number, number);
    execute format('create table session_ids_%s partition of session_ids for values with (modulus 16, remainder %s)', number, number);
  end loop;
end $$;

-- What has expired is found from the oldest on.
create index sessions_expires on sessions (expires_at);
create index session_ids_expires on session_ids (expires_at);
create index sessions_orphaned on sessions (orphaned_at) where orphaned_at is not null;
create index sessions_orphans_untold on sessions (orphaned_at)
  where orphaned_at is not null and orphan_told_at is distinct from orphaned_at;

-- Session starts and ends have a lane of the event log of their own, so that a storm of logins never delays a logout.
alter table log_records drop constraint log_records_lane_check,
  add constraint log_records_lane_check check (lane in ('interactive', 'bulk', 'sessions'));

alter table issuers
  -- What its sessions in the index are good for. Off: nothing. Partial: who is known to hold one is told by sid, the others are
  -- told all the same. Complete: only who is known to hold one is told.
  add column session_index text not null default 'partial' check (session_index in ('off', 'partial', 'complete'));

alter table events
  add column device text,
  drop constraint events_scope_check,
  add constraint events_scope_check check (scope in ('session', 'subject', 'device', 'issuer')),
  drop constraint scope_names_whom,
  add constraint scope_names_whom check (
    (scope <> 'session' or sid is not null) and (scope <> 'subject' or sub is not null)
    and (scope <> 'device' or sub is not null and device is not null)
    and (scope <> 'issuer' or sub is null and sid is null)),
  drop constraint events_plan_basis_check,
  add constraint events_plan_basis_check check (plan_basis in ('sessions', 'registered', 'index_away', 'unknown_issuer'));
-- Finds the logouts that a session which was posted late should have ended with.
create index events_of_subject on events (iss, sub, occurred_at) where sub is not null;
create index events_of_session on events (iss, sid) where sid is not null;
