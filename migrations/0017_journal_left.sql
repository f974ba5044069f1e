-- Entries of the journal that one poster failed at: the others have entered them, and go on with what follows.
create table journal_left (
  poster         text not null,
  id             bigint not null,
  kind           text not null,
  at             timestamptz not null,
  event_ids      uuid[] not null,
  delivery_ids   uuid[] not null,
  states         text[] not null,
  generations    smallint[] not null,
  -- When it failed by itself, the last time: what has not, goes first.
  failed_at      timestamptz not null default '-infinity',
  primary key (poster, id)
);
create index journal_left_next on journal_left (poster, failed_at, id);
