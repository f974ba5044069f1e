-- Logout events, the deliveries that they owe, and the workers that make them.

create table events (
  -- Derived from the issuer and given_id (eventIdOf in libs/domain): the same given_id at two issuers is two events. All other
  -- tables refer to this id.
  id                 uuid primary key,
  -- The id that the issuer gave the event. Unique only within the issuer.
  given_id           uuid not null,
  -- The issuer logout that this event is a part of.
  parent_id          uuid,
  iss                text not null,
  sub                text,
  sid                text,
  device             text,
  -- The subject's email address, for relying parties that know their users by it.
  email              text,
  -- The subject of an event that names only a session, if the session index knew it when the event was posted. The index forgets a
  -- session once it is over; an erasure of the subject still needs to find the event.
  session_sub             text,
  scope              text not null check (scope in ('session', 'subject', 'device', 'issuer')),
  reason             text,
  initiator          text,
  clients            text[],
  -- The client that the identity provider addressed its logout token to, if the event came by the relay.
  relayed_for        text,
  -- The identity provider's own id of the logout (RFC 8417 section 2.2), if its token had one. Tokens of the event repeat it.
  txn                text,
  include_initiator  boolean not null,
  -- Whether the identity provider stated occurred_at, by its own clock. If not, occurred_at is requested_at.
  occurred_stated    boolean not null,
  occurred_at        timestamptz not null,
  -- When the logout was asked of us, by our clock: accepted_at, or the accepted_at of the parent.
  requested_at           timestamptz not null,
  accepted_at        timestamptz not null,
  planned_at         timestamptz not null,
  -- When the subject was erased. The row keeps which deliveries were made and how they ended.
  erased_at          timestamptz,
  lane               text not null check (lane in ('interactive', 'bulk')),
  plan_basis         text not null check (plan_basis in ('sessions', 'registered', 'index_unavailable', 'unknown_issuer')),
  -- The registry's revision when the event was planned. It decides how the SLA counts the logout: see told-bindings.ts.
  registry_revision  bigint not null default 0,
  traceparent        text,
  -- SHA-256 of the event as posted. It tells a repeated post from another event with the same id. An erasure removes it: the other
  -- hashed fields are in this row, so a guess of the subject, such as a mail address, could be tested against it. Without a digest,
  -- every later post of the id counts as a repetition.
  digest             bytea,
  constraint scope_fits_names check (erased_at is not null or (
    (scope <> 'session' or sid is not null) and (scope <> 'subject' or sub is not null)
    and (scope <> 'device' or sub is not null and device is not null)
    and (scope <> 'issuer' or sub is null and sid is null))),
  constraint no_names_when_erased check (
    case when erased_at is null then digest is not null else num_nonnulls(sub, sid, device, email, digest, session_sub, txn) = 0 end)
);
-- Finds the events of one given_id at all issuers.
create index events_given_id on events (given_id);
-- Retention. Planned in order of time, so the index grows at its end only.
create index events_planned on events (planned_at, id);
-- These three find the logouts that should have ended a session that was posted late: of its subject and of its session, the latest
-- first; of its issuer.
create index events_of_subject on events (iss, sub, requested_at) where sub is not null;
create index events_of_session on events (iss, sid, planned_at) where sid is not null;
-- Finds the relayed logouts of a session, so that no other way delivers the same logout again.
create index events_relayed on events (iss, sid, planned_at) where relayed_for is not null and sid is not null;
create index events_of_issuer_logouts on events (iss, occurred_at) where scope = 'issuer';
-- Finds the events of an erased subject that name only a session.
create index events_of_session_sub on events (iss, session_sub) where session_sub is not null;
-- Finds those of them whose session no index knew, by the subject's email address.
create index events_of_email on events (iss, lower(email)) where email is not null and sub is null;

-- The life of a delivery, as settle() in libs/domain decides it. The checks repeat the state machine.
--
-- Settling a delivery whose first attempt is acknowledged is a heap-only update: it changes no indexed column (due_at stays null,
-- leased_at keeps its first value), and fillfactor leaves free space in each page. Keep it so when you add an index.
-- Columns of fixed width come before those of variable width, so that no padding enlarges a row.
-- The deliveries of an event are found by the primary key, because their ids begin as the event's id does.
create table deliveries (
  id                  uuid primary key,
  event_id            uuid not null,
  binding_id          bigint not null,
  -- A hash of issuer, subject and sid. Two deliveries to one binding with the same target have the same effect.
  target              uuid,
  planned_at          timestamptz not null,
  -- When the session ends by itself; null if unknown. After it, no logout is needed.
  session_ends_at     timestamptz,
  -- When the next attempt may start. Of an offered delivery: when the offer ends.
  due_at              timestamptz,
  -- The worker that may settle the delivery, or that settled it. The lease is valid while the worker sends heartbeats.
  leased_by           uuid,
  leased_at           timestamptz,
  settled_at          timestamptz,
  -- The delivery that covers this one: of a newer logout, or of the same logout by another way.
  superseded_by       uuid,
  -- A generated column with its own indexes: an index on settled_at would make every settlement touch it.
  dead_lettered_at    timestamptz generated always as (case when state = 'dead_lettered' then settled_at end) stored,
  -- When the dead letter was published.
  announced_at        timestamptz,
  -- The job that replayed the delivery last.
  replay_id           uuid,
  -- When the subject was erased. A target can be guessed too, so it goes as well. An erased dead letter cannot be replayed.
  erased_at           timestamptz,
  -- The receipt needs this time after retention has dropped the history of attempts.
  first_attempt_at    timestamptz,
  -- Rows in the table of attempts, quick retries included. An integer: beyond 32,767 a smallint would fail the statement for every
  -- delivery of its batch. Statements that count stop at the end of an integer.
  attempts            integer not null default 0 check (attempts >= 0),
  -- Those of them that sent nothing, for example because the endpoint was disabled. Answers and receipts count the others.
  unsent              integer not null default 0 check (unsent >= 0),
  -- How often the delivery was replayed by a person, or put back because its channel was registered again, its subject became known or
  -- its session was extended after it lapsed. Each continues the count of attempts and restarts the schedule.
  generation          integer not null default 0 check (generation >= 0),
  -- Steps of a retry schedule, which has at most 32.
  retries             smallint not null default 0 check (retries >= 0),
  refusals            smallint not null default 0 check (refusals >= 0),
  -- HTTP status of the last attempt; null if it got no answer.
  status              smallint,
  -- Whether its relying party fetches it. Curfew then makes no attempt.
  fetched             boolean not null default false,
  -- Whether its message must not name the event's subject, because that is the pairwise sub of another client or may be.
  sub_withheld        boolean not null default false,
  state               text not null check (state in
                        ('pending', 'in_flight', 'offered', 'acknowledged', 'superseded', 'lapsed', 'dead_lettered')),
  lane                text not null check (lane in ('interactive', 'bulk')),
  sid                 text,
  -- The subject that its message names instead of the event's: the one that its client knows the user by. Null: the event's, or none.
  sub                 text,
  level               text check (level in ('done', 'partial', 'received', 'begun', 'unconfirmable')),
  dead_letter_reason  text,
  -- The proof behind the acknowledgement of a fetched delivery, as a machine word: `applied_to:4711`.
  evidence            text,
  -- SHA-256 of the last token sent. The token itself is stored nowhere.
  token_digest        bytea check (octet_length(token_digest) = 32),
  -- The message that the first attempt sends, a compact JWE under the master key: the identity provider's own token. Null in all other
  -- deliveries, and after the first attempt.
  first_message       text,
  constraint due_exactly_while_waiting check ((state in ('pending', 'offered')) = (due_at is not null)),
  constraint sent_or_offered check (case state when 'offered' then fetched when 'pending' then not fetched when 'in_flight' then not fetched else true end),
  constraint leased_in_flight check (state <> 'in_flight' or (leased_by is not null and leased_at is not null)),
  constraint settled_exactly_when_terminal check ((state in ('pending', 'in_flight', 'offered')) = (settled_at is null)),
  constraint level_exactly_when_acknowledged check ((state = 'acknowledged') = (level is not null)),
  constraint reason_exactly_when_dead check ((state = 'dead_lettered') = (dead_letter_reason is not null)),
  constraint acknowledged_after_an_attempt check (state <> 'acknowledged' or attempts > 0 or fetched),
  constraint fetched_without_attempts check (not fetched or attempts = 0 and first_message is null),
  constraint evidence_of_fetched check (evidence is null or fetched and state = 'acknowledged'),
  constraint superseded_by_another check ((state = 'superseded') = (superseded_by is not null)),
  constraint no_first_message_when_settled check (first_message is null or settled_at is null),
  constraint replay_begins_a_generation check (replay_id is null or generation > 0),
  constraint no_names_when_erased check (erased_at is null or num_nonnulls(sid, sub, target) = 0),
  constraint names_no_sub_when_withheld check (not (sub_withheld and sub is not null)),
  constraint settled_when_erased check (erased_at is null or settled_at is not null)
) with (fillfactor = 50);
create index deliveries_binding on deliveries (binding_id, id);
-- The dispatcher claims from it, one lane of one binding at a time. Neither the backlog of a dead relying party nor a mass logout
-- lies before the deliveries of another binding.
create index deliveries_due on deliveries (binding_id, lane, due_at) where due_at is not null;
-- Metrics: the oldest pending delivery of each binding and lane. A delivery whose first attempt is acknowledged is never pending, so
-- its settlement does not touch the index.
create index deliveries_waiting on deliveries (binding_id, lane, planned_at) where due_at is not null;
-- Finds pending deliveries that a newer logout covers.
create index deliveries_target on deliveries (binding_id, target) where due_at is not null;
create index deliveries_dead on deliveries (dead_lettered_at, id) where dead_lettered_at is not null;
create index deliveries_dead_of_binding on deliveries (binding_id, dead_lettered_at, id) where dead_lettered_at is not null;
create index deliveries_unannounced on deliveries (dead_lettered_at) where dead_lettered_at is not null and announced_at is null;
-- Finds the logouts that a settled delivery covers. Only superseded deliveries have the column, so no other settlement touches the index.
create index deliveries_superseded on deliveries (superseded_by) where superseded_by is not null;
-- Finds the deliveries that name an erased subject. Only those that name another subject than their event have the column.
create index deliveries_sub on deliveries (sub) where sub is not null;
create index deliveries_replay on deliveries (replay_id) where replay_id is not null;

-- One row for each POST, and one for each round that could send nothing. Rows never change. The table has a partition for each day, so that retention drops partitions and does not
-- delete row by row.
create table attempts (
  delivery_id        uuid not null,
  -- The first attempt of a delivery has number 1.
  number             integer not null check (number > 0),
  duration_ms        integer not null check (duration_ms >= 0),
  started_at         timestamptz not null,
  -- When the row was written, by the clock of PostgreSQL. Readers ask for the rows written since they last asked.
  recorded_at        timestamptz not null default now(),
  worker_id          uuid not null,
  -- The id of the token, for a search in the relying party's log. The token itself is stored nowhere. A forwarded token has the id that
  -- its identity provider gave it, which need not be a UUID.
  jti                text,
  status             smallint,
  outcome            text not null check (outcome in
                       ('acknowledged', 'unavailable', 'refused', 'misconfigured', 'undeliverable')),
  error_class        text,
  -- The relying party's own words, shortened and cleaned.
  error              text,
  error_description  text,
  -- The target of a redirect, without the values of its parameters and other secrets.
  location           text,
  -- A machine word for what else an acknowledgement said, such as unknown_user.
  note               text,
  primary key (delivery_id, number, started_at)
) partition by range (started_at);
-- An attempt whose day has no partition goes here, so that none is refused.
create table attempts_default partition of attempts default;
-- Rows are only added, so recorded_at grows from page to page and a small BRIN index finds them.
create index attempts_recorded on attempts using brin (recorded_at) with (pages_per_range = 32, autosummarize = on);

-- Jobs that replay dead letters at a pace. A job takes the letters that were dead when it was requested. It takes each at most once,
-- however often the job is resumed.
create table replays (
  id              uuid primary key,
  filter          jsonb not null,
  include_lapsed  boolean not null,
  requested_by    text not null,
  requested_at    timestamptz not null,
  state           text not null check (state in ('running', 'done', 'cancelled', 'failed')),
  ended_at        timestamptz,
  -- Why the job failed, in words.
  failure         text,
  -- Dead letters that matched at the request, and those replayed so far.
  total           bigint not null check (total >= 0),
  done            bigint not null default 0 check (done >= 0),
  -- Dead letters that the ledger refused to replay. They stay dead letters, and the job skips them.
  refused         uuid[] not null default '{}',
  -- When the job took its last batch. The pace is the job's, whatever the number of bookkeepers.
  taken_at        timestamptz,
  -- The last dead letter that the job passed, so that it looks once at those it skips.
  reached_at      timestamptz,
  reached_id      uuid,
  constraint ended_unless_running check ((state = 'running') = (ended_at is null)),
  constraint failure_exactly_when_failed check ((state = 'failed') = (failure is not null)),
  constraint reached_both_or_neither check ((reached_at is null) = (reached_id is null))
);
-- Retention, in batches.
create index replays_ended on replays (ended_at) where ended_at is not null;

-- Delivery workers that send heartbeats. A worker whose heartbeats stop loses its leases and must return under a new id.
create table workers (
  id          uuid primary key,
  name        text not null,
  started_at  timestamptz not null default now(),
  seen_at     timestamptz not null default now(),
  -- False while the worker may make no attempts, because its clock differs from PostgreSQL's. It then has no share of the limits of
  -- relying parties.
  working     boolean not null default true
);

-- One row for each statement that leases deliveries to a worker, written by that statement. A delivery in flight is therefore always
-- listed here, under its leased_by and leased_at. Two searches need no scan by age: for the leases of a worker that is gone, and for
-- leases that their worker does not know. A row is deleted once none of its deliveries is held.
create table leases (
  worker_id     uuid not null,
  -- Counted by the worker, which knows the number before it sends the statement.
  number        bigint not null,
  -- leased_at of the deliveries. With the worker, it tells this lease of a delivery from a later one.
  leased_at     timestamptz not null,
  -- Ids hardly compress, and every row is read once.
  delivery_ids  uuid[] storage external not null,
  primary key (worker_id, number)
) with (
  -- Rows are short-lived, as in the event log.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0
);

-- Open circuit breakers: which worker found which binding unavailable.
create table breakers (
  binding_id  bigint not null,
  worker_id   uuid not null references workers (id) on delete cascade,
  opened_at   timestamptz not null default now(),
  primary key (binding_id, worker_id)
);
create index breakers_of_worker on breakers (worker_id);

-- The last notification about the breaker of a binding.
create table breaker_notices (
  binding_id   bigint primary key,
  opened_at    timestamptz not null,
  -- When operators were notified that the breaker closed. Null if the last notification said that it opened.
  closed_at    timestamptz,
  -- When the binding answered, after that notification.
  answered_at  timestamptz,
  -- Since when no worker has the breaker open, though the binding has not answered: the workers ended, and the next may find it
  -- still unavailable.
  left_at      timestamptz
);
