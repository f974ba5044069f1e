-- What the delivery engine adds: logouts that cover older ones, lanes, dead letters and their replay, history by the day.

alter table deliveries
  -- Who is logged out where, as a hash of issuer, subject and sid: deliveries to one binding with the same target say the same.
  add column target           uuid,
  -- The newer delivery that says all that this one would have said.
  add column superseded_by    uuid,
  -- When the session ends by itself; null where nobody has said. After it there is nothing left to log out of.
  add column session_ends_at  timestamptz,
  -- How often a person had it replayed. Attempts are counted on, the schedule begins anew.
  add column generation       smallint not null default 0 check (generation >= 0),
  -- The job that replayed it last.
  add column replay_id        uuid,
  -- When the dead letter was published to those who listen.
  add column announced_at     timestamptz,
  -- A column of its own, for an index on settled_at would make every settlement touch it.
  add column dead_lettered_at timestamptz generated always as
    (case when state = 'dead_lettered' then settled_at end) stored,
  add constraint superseded_by_another check ((state = 'superseded') = (superseded_by is not null)),
  add constraint replayed_by_a_job check (generation = 0 or replay_id is not null);

-- What the dispatcher claims from, a lane of a binding after the other: neither a dead relying party's million rows nor a
-- mass logout lie before another's.
drop index deliveries_due;
create index deliveries_due on deliveries (binding_id, lane, due_at) where due_at is not null;
-- What waits and would be covered by a newer logout.
create index deliveries_target on deliveries (binding_id, target) where due_at is not null;
create index deliveries_dead on deliveries (dead_lettered_at, id) where dead_lettered_at is not null;
create index deliveries_dead_of_binding on deliveries (binding_id, dead_lettered_at, id) where dead_lettered_at is not null;
create index deliveries_unannounced on deliveries (dead_lettered_at) where dead_lettered_at is not null and announced_at is null;
create index deliveries_replay on deliveries (replay_id) where replay_id is not null;

-- History by the day, so that what is too old is dropped and not deleted row by row. What no day was made for in time
-- goes to the default partition, and nothing is refused.
alter table attempts rename to attempts_whole;
alter table attempts_whole rename constraint attempts_pkey to attempts_whole_pkey;
create table attempts (
  delivery_id        uuid not null,
  number             smallint not null check (number > 0),
  started_at         timestamptz not null,
  duration_ms        integer not null check (duration_ms >= 0),
  outcome            text not null check (outcome in
                       ('acknowledged', 'unavailable', 'refused', 'misconfigured', 'undeliverable')),
  status             smallint,
  error_class        text,
  -- The relying party's own words, capped and cleaned.
  error              text,
  error_description  text,
  -- The token's id, so that the relying party's log can be matched. The token itself is kept nowhere.
  jti                uuid,
  worker_id          uuid not null,
  primary key (delivery_id, number, started_at)
) partition by range (started_at);
create table attempts_default partition of attempts default;
insert into attempts (delivery_id, number, started_at, duration_ms, outcome, status, error_class, error, error_description,
    jti, worker_id)
  select delivery_id, number, started_at, duration_ms, outcome, status, error_class, error, error_description, jti, worker_id
    from attempts_whole;
drop table attempts_whole;

-- Dead letters being put back, at a pace. A job takes what was dead when it was asked for, so each delivery at most once,
-- however often the job is taken up again.
create table replays (
  id              uuid primary key,
  filter          jsonb not null,
  include_lapsed  boolean not null,
  requested_by    text not null,
  requested_at    timestamptz not null,
  -- Dead letters that matched when it was asked for, and how many have been put back.
  total           integer not null check (total >= 0),
  done            integer not null default 0 check (done >= 0),
  state           text not null check (state in ('running', 'done', 'cancelled')),
  ended_at        timestamptz,
  constraint ended_unless_running check ((state = 'running') = (ended_at is null))
);

-- Who changed or replayed what. Never changed, never without a name.
create table audit (
  id          bigint generated always as identity primary key,
  at          timestamptz not null default now(),
  credential  text not null,
  action      text not null,
  object      text not null,
  detail      jsonb not null
);
