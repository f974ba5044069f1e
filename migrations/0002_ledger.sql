-- The ledger: who is registered, what was asserted, who is owed what, and what became of it.

-- One row. Every change of the registry takes its lock and the next number, so that numbers are
-- committed in order and a reader that asks for "greater than the last I saw" misses nothing.
create table registry_revision (
  only_row boolean primary key default true check (only_row),
  revision bigint not null
);
insert into registry_revision (revision) values (0);

create table issuers (
  name            text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  iss             text not null unique,
  sla_within_ms   integer not null check (sla_within_ms > 0),
  sla_objective   double precision not null check (sla_objective > 0 and sla_objective < 1),
  -- Settings that its relying parties have where they do not say otherwise.
  defaults        jsonb not null,
  revision        bigint not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table relying_parties (
  id          bigint generated always as identity primary key,
  issuer      text not null references issuers (name),
  client_id   text not null,
  -- OIDC client metadata as its owner gave it, known to us or not.
  metadata    jsonb not null,
  settings    jsonb not null,
  revision    bigint not null,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  unique (issuer, client_id)
);

-- One way of telling one relying party. A delivery is owed to a binding, so a row stays while deliveries name it.
create table bindings (
  id                bigint generated always as identity primary key,
  relying_party_id  bigint not null references relying_parties (id),
  kind              text not null check (kind in ('backchannel')),
  uri               text not null,
  -- False when the owner took the endpoint away: nothing new is planned for it.
  registered        boolean not null default true,
  -- Why nothing is sent to it, in words; null when enabled.
  disabled_reason   text,
  unique (relying_party_id, kind)
);

create table signing_keys (
  kid                 text primary key,
  issuer              text not null references issuers (name),
  algorithm           text not null,
  public_jwk          jsonb not null,
  -- A compact JWE under the master key. The private key is nowhere else.
  sealed_private_key  text not null,
  created_at          timestamptz not null,
  -- Rotation will keep several; today one key signs for an issuer in an algorithm.
  unique (issuer, algorithm)
);

create table events (
  id                 uuid primary key,
  -- SHA-256 of what the IdP said, to tell a repeated post from another event under the same id.
  digest             bytea not null,
  iss                text not null,
  sub                text,
  sid                text,
  scope              text not null check (scope in ('session', 'subject', 'issuer')),
  reason             text,
  initiator          text,
  include_initiator  boolean not null,
  clients            text[],
  lane               text not null check (lane in ('interactive', 'bulk')),
  occurred_at        timestamptz not null,
  accepted_at        timestamptz not null,
  planned_at         timestamptz not null,
  plan_basis         text not null check (plan_basis in ('registered', 'unknown_issuer')),
  traceparent        text,
  constraint scope_names_whom check (
    (scope <> 'session' or sid is not null) and (scope <> 'subject' or sub is not null))
);

-- The life of a delivery, as settle() in the domain has it; the checks say it again.
create table deliveries (
  id                  uuid primary key,
  event_id            uuid not null,
  binding_id          bigint not null,
  attempts            smallint not null default 0 check (attempts >= 0),
  retries             smallint not null default 0 check (retries >= 0),
  refusals            smallint not null default 0 check (refusals >= 0),
  state               text not null check (state in
                        ('pending', 'in_flight', 'acknowledged', 'superseded', 'lapsed', 'dead_lettered')),
  lane                text not null check (lane in ('interactive', 'bulk')),
  sid                 text,
  planned_at          timestamptz not null,
  -- When it may next be attempted.
  due_at              timestamptz,
  -- The worker that may settle it, or that did. Its lease runs as long as that worker's heart beats.
  leased_by           uuid,
  leased_at           timestamptz,
  settled_at          timestamptz,
  level               text check (level in ('done', 'received', 'begun', 'partial', 'unconfirmable')),
  dead_letter_reason  text,
  constraint due_exactly_while_pending check ((state = 'pending') = (due_at is not null)),
  constraint leased_in_flight check (state <> 'in_flight' or (leased_by is not null and leased_at is not null)),
  constraint settled_exactly_when_terminal check ((state in ('pending', 'in_flight')) = (settled_at is null)),
  constraint level_exactly_when_acknowledged check ((state = 'acknowledged') = (level is not null)),
  constraint reason_exactly_when_dead check ((state = 'dead_lettered') = (dead_letter_reason is not null)),
  constraint acknowledged_after_an_attempt check (state <> 'acknowledged' or attempts > 0)
) with (fillfactor = 50);
-- Of a delivery that is acknowledged at once, no indexed column ever changes (due_at stays null, leased_at stays what it
-- was born with), so settling it is a heap-only update: free space in each page and these indexes are chosen for that.
-- An event's deliveries are found by the primary key: their ids begin as the event's does.
create index deliveries_binding on deliveries (binding_id, id);
-- What the dispatcher claims from: a dead relying party's million rows lie beside, not before, another's.
create index deliveries_due on deliveries (binding_id, due_at) where due_at is not null;
-- Finds what a dead worker held: it can only be among what was leased lately.
create index deliveries_leased on deliveries using brin (leased_at) with (pages_per_range = 16, autosummarize = on);

-- One row for each POST. Kept with the delivery, never changed.
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
  primary key (delivery_id, number)
);

-- Delivery workers whose heart beats. One that falls silent loses its leases and must come back under a new id.
create table workers (
  id          uuid primary key,
  name        text not null,
  started_at  timestamptz not null default now(),
  seen_at     timestamptz not null default now()
);
