-- The session index: which client holds a session of which subject, as the identity provider reports it.

-- Issuers that ever posted a session. The index says nothing about other issuers, and their logouts go to every relying party. The id
-- stands for the URL of the issuer, which would be too large for each of a hundred million session rows.
create table session_issuers (
  id                integer generated always as identity primary key,
  iss               text not null unique,
  since             timestamptz not null default now(),
  -- How many rows the session index has of this issuer: counted from time to time, from a sample if the index is large. Null before the
  -- first count.
  sessions_counted  bigint,
  -- Since when the issuer has more sessions than its quota; null while it does not. Its new sessions are refused meanwhile.
  over_quota_since  timestamptz,
  -- Refused sessions may live until then; null: the index is whole. While it is not null, the index counts as partial, whatever the
  -- issuer's session_index says. It only grows, until it has passed.
  gaps_until        timestamptz,
  constraint over_quota_leaves_gaps check (over_quota_since is null or gaps_until is not null)
);
-- Every process that accepts sessions asks for these every few seconds.
create index session_issuers_over_quota on session_issuers (iss) where over_quota_since is not null;

-- Sessions by subject. One row is one session at one client; a session of the IdP has a row for each client that takes part.
-- The booleans stand where they fill padding, because the table may have a hundred million rows.
create table sessions (
  issuer                 integer not null,
  sub                    text not null,
  sid                    text not null,
  client_id              text not null,
  -- The device, if the IdP names it.
  device                 text,
  -- The subject's email address, for relying parties that know their users by it.
  email                  text,
  -- Whether the identity provider stated started_at, by its own clock. If not, started_at is accepted_at.
  started_stated         boolean not null default true,
  -- The same for the restart.
  restarted_stated       boolean,
  started_at             timestamptz not null,
  -- When Curfew accepted the first post of the session, by its own clock.
  accepted_at            timestamptz not null default now(),
  -- A session may end at one client and start there again with the same sid, because it goes on at its IdP. Then this is the latest
  -- start, and an earlier logout ended only the visit before it.
  restarted_at           timestamptz,
  restarted_accepted_at  timestamptz,
  -- When the session ends by itself; infinity if it has no end.
  expires_at             timestamptz not null,
  -- The latest logout that covers the session. The row goes once the relying party has acknowledged that logout.
  logout_event_id        uuid,
  -- Since when the session is orphaned: it should be over, but its logout failed.
  orphaned_at            timestamptz,
  -- The value of orphaned_at for which operators were last notified. A different value means that a notification is due.
  orphan_notified_at     timestamptz,
  -- The tokens that end with the session, a compact JWE under the master key. They hardly compress.
  sealed_tokens          text storage external,
  primary key (issuer, sub, sid, client_id),
  constraint orphaned_by_a_logout check (orphaned_at is null or logout_event_id is not null),
  constraint restarted_as_a_whole check (
    (restarted_at is null) = (restarted_stated is null) and (restarted_at is null) = (restarted_accepted_at is null))
) partition by hash (issuer, sub);

-- The same sessions by sid. One table cannot serve both, because each lookup must lie in one partition.
create table session_ids (
  issuer      integer not null,
  sid         text not null,
  client_id   text not null,
  sub         text not null,
  -- As in sessions.
  email       text,
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

-- Expired sessions, the oldest first.
create index sessions_expires on sessions (expires_at);
create index session_ids_expires on session_ids (expires_at);
-- The sessions of a client, the oldest first.
create index sessions_started on sessions (issuer, client_id, started_at);
-- Orphans in the order of their list, of all issuers and of one. One statement orphans many sessions at the same time, so
-- orphaned_at alone does not sort them.
create index sessions_orphaned on sessions (orphaned_at, issuer, sub, sid, client_id) where orphaned_at is not null;
create index sessions_orphaned_of_issuer on sessions (issuer, orphaned_at, sub, sid, client_id) where orphaned_at is not null;
-- Finds the tokens to seal again after a change of the master key.
create index sessions_sealed on sessions (issuer, sub, sid, client_id) where sealed_tokens is not null;
create index sessions_orphans_unnotified on sessions (orphaned_at)
  where orphaned_at is not null and orphan_notified_at is distinct from orphaned_at;

-- How long the ended sessions of each registered client lasted. It says which lifetime is normal for the client, and names no session.
create table session_lifetimes (
  relying_party_id    bigint primary key references relying_parties (id),
  -- Ended sessions by bucket of their lifetime: see lifetime.ts.
  lifetimes           real[] not null check (cardinality(lifetimes) = 80),
  -- Sessions that ran into their own end, since the first ended one. Both are halved together.
  expiries            real not null default 0 check (expiries >= 0),
  -- The age from which on a session of the client is overlong, in milliseconds; null while too few have ended, or most expire.
  overlong_after_ms   bigint check (overlong_after_ms > 0),
  -- Live sessions beyond that age, counted to a thousand.
  overlong            integer not null default 0 check (overlong >= 0),
  counted_at          timestamptz,
  -- The latest time at which operators were notified of overlong sessions of the client.
  notified_at         timestamptz,
  constraint overlong_by_a_limit check (overlong = 0 or overlong_after_ms is not null)
) with (
  -- Every batch of ended sessions changes rows, but never in an indexed column.
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000
);
