-- Whether the promise is kept: deliveries by relying party's endpoint and by the time that their event was accepted.

alter table issuers
  -- The error budget is for so many days.
  add column sla_window_days smallint not null default 30 check (sla_window_days between 1 and 90);

-- Every delivery is in one row of each span. The bookkeeper adds to them what the journal says, so that nobody ever counts
-- the ledger. What is planned and neither kept nor broken is under way.
create table sla_rollups (
  -- A slot is of five minutes. They are kept for two days: they say what is overdue now, and how fast the budget burns.
  span        text not null check (span in ('slot', 'hour', 'day')),
  binding_id  bigint not null,
  -- UTC.
  starts_at   timestamptz not null,
  planned     bigint not null check (planned >= 0),
  kept        bigint not null check (kept >= 0),
  broken      bigint not null check (broken >= 0),
  -- From acceptance to acknowledgement, of hours and days: see latency-histogram.ts. Several, one after the other, are their sum.
  latencies   bytea not null,
  primary key (span, binding_id, starts_at)
) with (
  -- The rows of now are changed several times a second, no indexed column of them ever.
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 5000
);

-- When an issuer's error budget was last seen to burn, so that it is told once however many bookkeepers look.
create table sla_burns (
  issuer      text not null references issuers (name),
  severity    text not null check (severity in ('page', 'ticket')),
  burning_at  timestamptz not null,
  primary key (issuer, severity)
);
