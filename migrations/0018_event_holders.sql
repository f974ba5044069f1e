-- Whose session an event names that names nothing else, as far as the session index knew when it was posted. The index forgets a
-- session once it is over: without this, nobody could tell any more that the event is of a subject who is to be forgotten.
alter table events
  add column holder text,
  drop constraint names_nobody_when_erased,
  add constraint names_nobody_when_erased check (
    case when erased_at is null then digest is not null else num_nonnulls(sub, sid, device, digest, holder) = 0 end);
create index events_of_holder on events (iss, holder) where holder is not null;
