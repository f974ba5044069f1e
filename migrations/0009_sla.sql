-- Figures of the SLA: deliveries by binding and by the time at which their event was accepted.

-- Every delivery counts in one row of each span. A logout at a relying party with several channels counts as one delivery of the
-- party's first binding. The bookkeeper projects the journal into the rollups, so that no request has to count deliveries. A
-- planned delivery that is neither kept nor broken is under way.
create table sla_rollups (
  -- A slot is five minutes long and is kept for two days. Slots show which deliveries are overdue, and how fast the budget burns,
  -- to a tick of five seconds.
  span        text not null check (span in ('slot', 'hour', 'day')),
  binding_id  bigint not null,
  -- UTC.
  starts_at   timestamptz not null,
  planned     bigint not null check (planned >= 0),
  kept        bigint not null check (kept >= 0),
  broken      bigint not null check (broken >= 0),
  -- Counts by number, encoded as in histogram.ts. The bytes of several histograms, one after the other, are their sum.
  -- Slot: planned, kept and broken deliveries by tick (ticks.ts), so that ticks need no rows of their own. Hour and day: times from
  -- acceptance to acknowledgement (latency-histogram.ts).
  histogram   bytea not null,
  primary key (span, binding_id, starts_at)
) with (
  -- The latest rows change several times a second, but never in an indexed column.
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 5000
);

-- Logouts at relying parties with several channels. A logout counts as planned once, and as kept or broken once. A logout that was
-- planned while the relying party had one channel has no row: each of its deliveries counts. A row is deleted with its event.
create table sla_logouts (
  event_id     uuid not null,
  -- The first binding of the relying party.
  binding_id   bigint not null,
  -- When the event was accepted, in milliseconds since 1970.
  accepted_ms  bigint not null,
  planned      boolean not null default false,
  decided      boolean not null default false,
  primary key (event_id, binding_id)
);

-- When the error budget of an issuer was last seen to burn, so that one notification goes out, whatever the number of bookkeepers.
create table sla_burns (
  issuer      text not null references issuers (name),
  severity    text not null check (severity in ('page', 'ticket')),
  burning_at  timestamptz not null,
  primary key (issuer, severity)
);
