-- Identity of an event is issuer and id: the same id at two issuers is two events. `events.id` is derived from both
-- (eventIdOf in libs/domain), and all other tables go by it.

alter table events
  -- The id that its issuer gave the event. Unique only within the issuer.
  add column given_id uuid;
-- Events from before are kept under the id that was given.
update events set given_id = id;
alter table events alter column given_id set not null;
-- Finds the events of one id, at all issuers.
create index events_given_id on events (given_id);

alter table receipts
  -- As in `events`: a receipt outlives its event.
  add column given_id uuid;
update receipts set given_id = event_id;
alter table receipts alter column given_id set not null;
