-- Receipts of settled events, and the log whose leaves they are.

-- One row: the name of the log, its size, and its keys.
create table receipt_log (
  only_row            boolean primary key default true check (only_row),
  -- The name in every checkpoint and receipt. It never changes: another name would be another log.
  origin              text not null,
  -- The number of leaves, and the root of their tree (RFC 9162).
  size                bigint not null default 0 check (size >= 0),
  root                bytea not null check (octet_length(root) = 32),
  kid                 text not null,
  public_jwk          jsonb not null,
  -- Compact JWEs under the master key: the signing key, and the key that hashes subjects.
  sealed_private_key  text not null,
  sealed_subject_key  text not null,
  created_at          timestamptz not null default now()
);

-- The Merkle tree in tiles of 256 hashes, as in C2SP tlog-tiles. Level -1 holds the leaves: the SHA-256 of each receipt. The tiles
-- hold no personal data, so they are never deleted.
create table log_tiles (
  level   smallint not null check (level >= -1),
  number  bigint not null check (number >= 0),
  -- Hashes do not compress.
  hashes  bytea storage external not null check (octet_length(hashes) between 32 and 8192 and octet_length(hashes) % 32 = 0),
  primary key (level, number)
);

-- The receipts behind the leaves. All receipts of one event lie in one partition: that of the month in which it was planned.
create table receipts (
  event_id     uuid not null,
  -- As in `events`: a receipt outlives its event.
  given_id     uuid not null,
  -- The number of the event's deliveries, plus how often they were replayed. A change of either leads to another receipt.
  revision     integer not null check (revision >= 0),
  planned_at   timestamptz not null,
  settled_at   timestamptz not null,
  log_index    bigint not null check (log_index >= 0),
  -- A keyed hash of the subject, which finds the receipt after its event was deleted.
  subject_tag  uuid,
  -- The exact bytes of the claims, because the leaf is their hash. Null: erased.
  payload      text,
  primary key (event_id, revision, planned_at)
) partition by range (planned_at);
create index receipts_log_index on receipts (log_index);
create index receipts_subject_tag on receipts (subject_tag) where subject_tag is not null;
-- A receipt whose month has no partition goes here, so that none is refused.
create table receipts_default partition of receipts default;
-- This month and the next. The bookkeeper creates the later ones.
do $$
declare
  month timestamptz;
begin
  for ahead in 0..1 loop
    month := (date_trunc('month', now() at time zone 'utc') + make_interval(months => ahead)) at time zone 'utc';
    execute format('create table receipts_%s partition of receipts for values from (%L) to (%L)',
      to_char(month at time zone 'utc', 'YYYYMM'), month,
      (date_trunc('month', now() at time zone 'utc') + make_interval(months => ahead + 1)) at time zone 'utc');
  end loop;
end $$;
