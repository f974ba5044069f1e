-- Requests to erase a subject. A request stays open for a while, for data that arrives late. Then the subject's name is erased here too.
create table erasures (
  id                  uuid primary key,
  issuer              text not null references issuers (name),
  -- The subject, its known sessions and its known email addresses. Null and empty once the request is closed.
  sub                 text,
  sids                text[] not null default '{}',
  emails              text[] not null default '{}',
  -- A keyed hash of iss and sub, in base64url. Only a person who has both the name and the key can recognise the subject.
  subject_digest      text not null,
  -- Whether the request gives up dead letters that a person could still act on.
  abandon             boolean not null,
  requested_by        text not null,
  requested_at        timestamptz not null,
  -- The request covers data accepted before then.
  watched_until       timestamptz not null,
  next_look_at        timestamptz,
  -- The data left for later, and why, as the last finished look found it; null before that.
  waiting             jsonb,
  -- Since when no data is known to be left.
  completed_at        timestamptz,
  closed_at           timestamptz,
  -- When the bookkeeper stopped, after it failed at the same place again and again. A repeated request resumes.
  failed_at           timestamptz,
  -- Why it failed, in words.
  failure             text,
  -- Rows erased so far, by kind.
  erased_events       bigint not null default 0,
  erased_deliveries   bigint not null default 0,
  erased_attempts     bigint not null default 0,
  erased_sessions     bigint not null default 0,
  erased_receipts     bigint not null default 0,
  erased_quarantined  bigint not null default 0,
  constraint nameless_exactly_when_closed check ((sub is null) = (closed_at is not null)),
  constraint no_sids_when_closed check (closed_at is null or sids = '{}'),
  constraint no_emails_when_closed check (closed_at is null or emails = '{}'),
  constraint looked_for_until_closed_or_failed check ((next_look_at is null) = (closed_at is not null or failed_at is not null)),
  constraint closed_when_complete check (closed_at is null or completed_at is not null),
  constraint failure_exactly_when_failed check ((failed_at is null) = (failure is null)),
  constraint failed_or_closed check (failed_at is null or closed_at is null)
);
-- One open request for each subject: a repeated request continues it.
create unique index erasures_of_subject on erasures (issuer, sub) where sub is not null;
create index erasures_next_look on erasures (next_look_at) where next_look_at is not null;
-- Retention.
create index erasures_closed on erasures (closed_at) where closed_at is not null;
