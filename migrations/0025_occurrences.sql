-- Whether a session began before a logout: by whose clock each time is, and in which order we accepted the two.

alter table events
  -- Whether the identity provider stated occurred_at, by its own clock. If not, occurred_at is asked_at.
  add column occurred_stated boolean not null default true,
  -- When the logout was asked of us, by our clock: accepted_at, or for a part of an issuer logout, the accepted_at of that.
  add column asked_at timestamptz not null default now();
-- The identity provider stated no time exactly where both times are the same.
update events e
   set asked_at = coalesce(p.accepted_at, e.accepted_at),
       occurred_stated = e.occurred_at <> coalesce(p.accepted_at, e.accepted_at)
  from events self left join events p on p.id = self.parent_id
 where self.id = e.id;
-- Finds the logouts that a session which was posted late should have ended with, the latest first.
drop index events_of_subject;
create index events_of_subject on events (iss, sub, asked_at) where sub is not null;

alter table sessions
  -- Whether the identity provider stated started_at, by its own clock. If not, it is accepted_at.
  add column started_stated boolean not null default true,
  -- When we accepted the first post of it, by our clock.
  add column accepted_at timestamptz not null default now(),
  -- The same of restarted_at.
  add column restarted_stated boolean,
  add column restarted_accepted_at timestamptz;
-- Of sessions that were posted before this was kept, the start is the best that is known.
update sessions
   set accepted_at = started_at, restarted_accepted_at = restarted_at,
       restarted_stated = case when restarted_at is not null then true end;
alter table sessions
  add constraint restarted_as_a_whole check (
    (restarted_at is null) = (restarted_stated is null) and (restarted_at is null) = (restarted_accepted_at is null));
