-- Issuer logouts: a bookkeeper makes one event for each subject of the issuer, at a pace.

create table issuer_logouts (
  event_id      uuid primary key,
  iss           text not null,
  -- The id of a subject's part is a hash with this secret salt. Without the salt, an id that outlives its erased subject cannot be
  -- tested against guessed names, and no other event can take the id first.
  salt          uuid not null default gen_random_uuid(),
  -- The name of the credential.
  requested_by  text not null,
  requested_at  timestamptz not null,
  state         text not null check (state in ('running', 'done', 'cancelled', 'failed')),
  ended_at      timestamptz,
  -- Why the job failed, in words.
  failure       text,
  -- Subjects to log out, counted when the job began; null until then.
  total         bigint check (total >= 0),
  -- Number of subjects handed to the event log so far.
  taken         bigint not null default 0 check (taken >= 0),
  -- The last subject read from the index; the next page begins after it. Empty before the first page and after the last.
  reached       text not null default '',
  -- When the job took its last page. The pace is the job's, whatever the number of bookkeepers.
  taken_at      timestamptz,
  -- No subject follows `reached`.
  exhausted     boolean not null default false,
  -- Projected from the journal: subjects planned, deliveries still owed, and how the others ended.
  planned       bigint not null default 0,
  owed          bigint not null default 0,
  acknowledged  bigint not null default 0,
  superseded    bigint not null default 0,
  lapsed        bigint not null default 0,
  dead          bigint not null default 0,
  constraint ended_unless_running check ((state = 'running') = (ended_at is null)),
  constraint failure_exactly_when_failed check ((state = 'failed') = (failure is not null))
);
-- Issuer logouts in the order of their list. Neither column changes, so an update of the counts stays a heap-only update.
create index issuer_logouts_requested on issuer_logouts (requested_at, event_id);
create index issuer_logouts_of_issuer on issuer_logouts (iss, requested_at, event_id);

-- Subjects with a session that began before an issuer logout but was posted after the job had passed them.
create table issuer_logouts_late (
  event_id  uuid not null,
  sub       text not null,
  primary key (event_id, sub)
);
