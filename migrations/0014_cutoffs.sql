-- The cutoff feed: the logouts after which resource servers refuse access tokens.

-- The last number of each issuer's feed. The transaction that adds entries locks the row, so that entries become visible in the order
-- of their numbers, and a reader that has read up to a number misses none below it.
create table cutoff_feeds (
  iss  text primary key,
  -- Near the milliseconds since 1970, so that a database restored from a backup does not use a number again.
  seq  bigint not null,
  -- The number of entries that the last transaction added.
  added integer not null,
  -- While logouts from before the first resource server are added: those planned before this time are in the feed. Null: all are.
  backfill_from timestamptz
);
create index cutoff_feeds_backfill on cutoff_feeds (iss) where backfill_from is not null;

-- One row for each session or subject that a logout cut off, and one for a logout of the whole issuer. No row names anybody.
create table cutoffs (
  iss         text not null,
  seq         bigint not null,
  -- The first 16 bytes of SHA-256 over iss, the kind (sid or sub) and the value, each ended by a zero byte. Null: everybody.
  key         bytea check (octet_length(key) = 16),
  -- The time of the logout by the clock of the issuer, in whole seconds since 1970.
  before      bigint not null,
  -- The logout. Its deliveries to resource servers are settled by their readers.
  event_id    uuid not null,
  -- When the last token has expired that the row could cut off.
  expires_at  timestamptz not null,
  primary key (iss, seq)
);
create index cutoffs_event on cutoffs (event_id);
create index cutoffs_everybody on cutoffs (iss) where key is null;
create index cutoffs_expiry on cutoffs (expires_at);

-- The processes that read a feed for a resource server, and how far each has read.
create table cutoff_readers (
  binding_id  bigint not null,
  -- The name that the process gave itself. Empty: it gave none.
  reader      text not null,
  applied     bigint not null,
  read_at     timestamptz not null default now(),
  primary key (binding_id, reader)
);
create index cutoff_readers_read_at on cutoff_readers (read_at);
