-- Proof: receipts of settled events, and the log that they are leaves of.

-- SHA-256 of the token that was sent. The token itself is kept nowhere.
alter table attempts add column token_digest bytea check (octet_length(token_digest) = 32);

-- The log, one row: what it is called, how much it holds, and what it signs with.
create table receipt_log (
  only_row            boolean primary key default true check (only_row),
  -- Its name in every checkpoint and receipt. Never changed: under another name it would be another log.
  origin              text not null,
  -- Leaves, and the root of their tree (RFC 9162).
  size                bigint not null default 0 check (size >= 0),
  root                bytea not null check (octet_length(root) = 32),
  kid                 text not null,
  public_jwk          jsonb not null,
  -- Compact JWEs under the master key: what signs, and what subjects are hashed with.
  sealed_private_key  text not null,
  sealed_subject_key  text not null,
  created_at          timestamptz not null default now()
);

-- The Merkle tree in tiles of 256 hashes, as C2SP tlog-tiles has them; at level -1 the leaves themselves, SHA-256 of the
-- receipts. No personal data is here, so nothing here is ever deleted.
create table log_tiles (
  level   smallint not null check (level >= -1),
  number  bigint not null check (number >= 0),
  hashes  bytea not null check (octet_length(hashes) between 32 and 8192 and octet_length(hashes) % 32 = 0),
  primary key (level, number)
);
-- Hashes cannot be compressed.
alter table log_tiles alter column hashes set storage external;

-- What the leaves are of. All receipts of one event lie in one partition, that of the month it was planned in.
create table receipts (
  event_id    uuid not null,
  -- Deliveries of the event by then, and how often they had been replayed: what changes either leads to another receipt.
  revision    integer not null check (revision >= 0),
  planned_at  timestamptz not null,
  log_index   bigint not null check (log_index >= 0),
  settled_at  timestamptz not null,
  -- The claims to the byte, for the leaf is their hash. Null: erased.
  payload     text,
  primary key (event_id, revision, planned_at)
) partition by range (planned_at);
create index receipts_log_index on receipts (log_index);
create table receipts_default partition of receipts default;
-- This month and the next; the bookkeeper makes those that follow.
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
