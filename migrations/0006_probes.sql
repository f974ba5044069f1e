-- Probes: what an endpoint took and refused of tokens that name nobody. Kept with the client, registered or not.

create table probes (
  id          uuid primary key,
  issuer      text not null references issuers (name) on delete cascade,
  client_id   text not null,
  uri         text not null,
  -- Name of the credential that asked for it.
  credential  text not null,
  started_at  timestamptz not null default now(),
  ended_at    timestamptz,
  -- Requests that are answered, of those that there are.
  sent        integer not null default 0 check (sent >= 0),
  total       integer not null check (total >= sent),
  -- As it was answered, so that what an older release saw is still read.
  report      jsonb,
  constraint report_exactly_when_ended check ((report is null) = (ended_at is null))
);

-- One at a time for each client, from whichever console.
create unique index probes_running on probes (issuer, client_id) where ended_at is null;
create index probes_latest on probes (issuer, client_id, started_at desc);
