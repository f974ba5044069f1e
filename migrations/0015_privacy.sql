-- What a subject asked to be forgotten, and audit records by the month.

-- Requests to forget a subject. One stands for a while after it was made, for what comes late; then the name goes from here too.
create table erasures (
  id                  uuid primary key,
  issuer              text not null references issuers (name),
  -- Whom, and the sessions that are known to be theirs. Null and none once the request is closed.
  sub                 text,
  sids                text[] not null default '{}',
  -- A keyed hash of iss and sub, in base64url: who knows the name and has the key recognises it.
  subject_digest      text not null,
  -- Whether what a person could still act on is given up.
  abandon             boolean not null,
  requested_by        text not null,
  requested_at        timestamptz not null,
  -- What was accepted before then is meant.
  watched_until       timestamptz not null,
  next_look_at        timestamptz,
  -- What is left for later, and why, as it was found at the last look; null until one was ended.
  waiting             jsonb,
  -- Since when nothing is known to be left.
  completed_at        timestamptz,
  closed_at           timestamptz,
  erased_events       integer not null default 0,
  erased_deliveries   integer not null default 0,
  erased_attempts     integer not null default 0,
  erased_sessions     integer not null default 0,
  erased_receipts     integer not null default 0,
  erased_quarantined  integer not null default 0,
  constraint nameless_exactly_when_closed check ((sub is null) = (closed_at is not null)),
  constraint no_sids_when_closed check (closed_at is null or sids = '{}'),
  constraint looked_for_until_closed check ((next_look_at is null) = (closed_at is not null)),
  constraint closed_when_complete check (closed_at is null or completed_at is not null)
);
-- One for each subject: who asks again has the one that stands go on.
create unique index erasures_of_subject on erasures (issuer, sub) where sub is not null;
create index erasures_next_look on erasures (next_look_at) where next_look_at is not null;
create index erasures_closed on erasures (closed_at) where closed_at is not null;

-- Of what was erased it stays what it came to: who was told, when, what became of it; not of whom.
--
-- The digest goes as well. All else that was hashed stands beside it, so whoever guesses a subject, such as a mail address,
-- could see that he is right. Without it another post of the id is taken for a repetition, which it is.
alter table events
  add column erased_at timestamptz,
  alter column digest drop not null,
  drop constraint scope_names_whom,
  add constraint scope_names_whom check (erased_at is not null or (
    (scope <> 'session' or sid is not null) and (scope <> 'subject' or sub is not null)
    and (scope <> 'device' or sub is not null and device is not null)
    and (scope <> 'issuer' or sub is null and sid is null))),
  add constraint names_nobody_when_erased check (
    case when erased_at is null then digest is not null else num_nonnulls(sub, sid, device, digest) = 0 end);
-- A target is a hash that can be guessed at, too. A dead letter that was erased can never be put back: nobody knows of whom.
alter table deliveries
  add column erased_at timestamptz,
  add constraint names_nobody_when_erased check (erased_at is null or num_nonnulls(sid, target) = 0),
  add constraint settled_when_erased check (erased_at is null or settled_at is not null);

-- A receipt outlives its event, so it is found by a keyed hash of whom it is about. Of those from before there is none: they
-- are found as long as their events are kept.
alter table receipts add column subject_tag uuid;
create index receipts_subject_tag on receipts (subject_tag) where subject_tag is not null;

-- Audit records by the month, so that what is too old is dropped and not deleted row by row.
alter table audit rename to audit_whole;
alter table audit_whole rename constraint audit_pkey to audit_whole_pkey;
-- A sequence of its own: what is an identity column of a partitioned table, releases of PostgreSQL do not agree on.
create sequence audit_number;
create table audit (
  id          bigint not null default nextval('audit_number'),
  at          timestamptz not null default now(),
  credential  text not null,
  action      text not null,
  object      text not null,
  detail      jsonb not null,
  primary key (id, at)
) partition by range (at);
alter sequence audit_number owned by audit.id;
create table audit_default partition of audit default;
insert into audit (id, at, credential, action, object, detail)
  select id, at, credential, action, object, detail from audit_whole;
select setval('audit_number', coalesce(max(id), 0) + 1, false) from audit_whole;
drop table audit_whole;

-- Finds what is too old, where it is deleted in batches.
create index replays_ended on replays (ended_at) where ended_at is not null;
create index probes_ended on probes (ended_at) where ended_at is not null;
create index quarantined_records_at on quarantined_records (quarantined_at);
