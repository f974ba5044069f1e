-- Logout of everyone of an issuer: an event from which a bookkeeper makes one for each subject, at a pace.

alter table events
  -- The logout of everyone that this is a part of.
  add column parent_id uuid;
-- Finds the logouts of everyone that a session which was posted late should have ended with.
create index events_of_everyone on events (iss, occurred_at) where scope = 'issuer';

create table issuer_logouts (
  event_id      uuid primary key,
  iss           text not null,
  -- The id of a subject's part is a hash. What it is mixed with is nobody's to know: of an id that is left once its subject was
  -- forgotten, no guessed name can be tried out, and nobody can take it with an event of their own before.
  salt          uuid not null default gen_random_uuid(),
  -- Name of the credential.
  requested_by  text not null,
  requested_at  timestamptz not null,
  state         text not null check (state in ('running', 'done', 'cancelled')),
  ended_at      timestamptz,
  -- Subjects to be logged out, as counted when the job began; null until then.
  total         integer check (total >= 0),
  -- How many were handed to the event log, page by page, in the order of subjects; and the last of them.
  taken         integer not null default 0 check (taken >= 0),
  reached       text not null default '',
  -- The pace is the job's, however many bookkeepers there are.
  taken_at      timestamptz,
  -- No subject is left behind `reached`.
  exhausted     boolean not null default false,
  -- Entered from the journal: how many were planned, what is owed of them, and how that ended.
  planned       integer not null default 0,
  owed          bigint not null default 0,
  acknowledged  bigint not null default 0,
  superseded    bigint not null default 0,
  lapsed        bigint not null default 0,
  dead          bigint not null default 0,
  constraint ended_unless_running check ((state = 'running') = (ended_at is null))
);

-- Subjects with a session that began before a logout of everyone and was posted after it had come by.
create table issuer_logouts_late (
  event_id  uuid not null,
  sub       text not null,
  primary key (event_id, sub)
);
