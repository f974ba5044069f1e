-- The registry: issuers, relying parties, their endpoints, and probes of them.

-- One row. Every change of the registry locks it and takes the next number. Numbers therefore commit in order, and a reader that
-- asks for "greater than the last one I saw" misses nothing.
create table registry_revision (
  only_row  boolean primary key default true check (only_row),
  revision  bigint not null
);
insert into registry_revision (revision) values (0);

-- Removed issuers and relying parties keep their rows, because history and keys refer to them. They are hidden, and they get
-- no deliveries.
create table issuers (
  name                 text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  iss                  text not null unique,
  -- Whether its sessions have a sid, which relying parties may require.
  sid_supported        boolean not null,
  -- How its sessions in the session index narrow a logout:
  --   off       not at all
  --   partial   RPs known to hold a session get a delivery by sid; the others get one as well
  --   complete  only RPs known to hold a session get a delivery
  session_index        text not null check (session_index in ('off', 'partial', 'complete')),
  -- The relay's settings. The URL of the issuer's keys; null: its discovery document names it. Whether logout tokens may lack `exp`
  -- and `typ`. Whether a relayed logout notifies the issuer's other relying parties as well.
  jwks_uri             text,
  lenient_logout_tokens boolean not null default false,
  widen                boolean not null default false,
  -- The cutoff feed. The longest life of a token that a resource server accepts, in seconds. Whether the logout of a session also cuts
  -- off the tokens of its subject, for tokens without a sid.
  max_token_ttl        integer not null default 3600 check (max_token_ttl > 0),
  widen_to_subject     boolean not null default false,
  -- With revoke_then_notify the channels that revoke are never a fallback. Null: each channel as its registration says.
  strategy             text check (strategy in ('revoke_then_notify')),
  -- The subject type of its relying parties that state none: whether they know a user by one sub, or each by a sub of its own.
  subject_type         text not null default 'public' check (subject_type in ('public', 'pairwise')),
  -- Default settings of its relying parties.
  defaults             jsonb not null,
  sla_within_ms        integer not null check (sla_within_ms > 0),
  sla_objective        double precision not null check (sla_objective > 0 and sla_objective < 1),
  -- The length of the error budget's window.
  sla_window_days      smallint not null check (sla_window_days between 1 and 90),
  -- Quotas of this issuer alone; null: the deployment's.
  sessions_max         bigint check (sessions_max >= 0),
  relying_parties_max  integer check (relying_parties_max >= 0),
  -- The networks that an administrator set, as {"networks": [CIDR, …], "by": "admin" | "issuer"}; null if none did. Only a rule
  -- of "admin" lets a registration go beyond the deployment's networks. A removed row keeps its rule, so that a new
  -- registration does not lift it.
  network_rule         jsonb,
  revision             bigint not null,
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  deleted_at           timestamptz
);
comment on column issuers.network_rule is 'Networks that an unbound admin set; it outlasts a removal';

create table relying_parties (
  id                bigint generated always as identity primary key,
  issuer            text not null references issuers (name),
  client_id         text not null,
  -- The whole OIDC client metadata as registered, with members that Curfew does not use.
  metadata          jsonb not null,
  settings          jsonb not null,
  -- The client's name from the metadata, where products name the member differently.
  client_name       text,
  -- The subject type from the metadata; null: the issuer's.
  subject_type      text check (subject_type in ('public', 'pairwise')),
  -- As in `issuers`.
  network_rule      jsonb,
  revision          bigint not null,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  deleted_at        timestamptz,
  unique (issuer, client_id)
);
comment on column relying_parties.network_rule is 'Networks that a credential above the owner set; it outlasts a removal';
-- Finds the clients of one client_id at all issuers.
create index relying_parties_client on relying_parties (client_id);
-- Few clients ask for confirmations, and each batch of new events asks for them.
create index relying_parties_confirmed on relying_parties (issuer, client_id) where settings ? 'confirmation_uri';

-- Tells issuers with pairwise clients from all others, whose logouts need no search for other names of a subject.
create index relying_parties_pairwise on relying_parties (issuer) where subject_type = 'pairwise';

-- One way to notify one relying party. A delivery is owed to a binding, so a row stays while deliveries refer to it.
create table bindings (
  id                bigint generated always as identity primary key,
  relying_party_id  bigint not null references relying_parties (id),
  -- The channel: a folder of libs/channels.
  kind              text not null check (kind ~ '^[a-z][a-z0-9_]*$'),
  -- The name of the endpoint within the channel of the relying party. main is the first; the owner names the others.
  endpoint          text not null,
  uri               text not null,
  -- Settings that only the channel reads, valid by its schema. The registration overrides the issuer's defaults, which override
  -- the channel's.
  settings          jsonb not null,
  -- Whether a message names a session, the subject, either, or whatever the event names, and whether a message for the subject may be used for a logout of
  -- one session. Both follow from the settings.
  -- Whether the channel revokes tokens and sessions where they are issued or checked, or notifies the relying party.
  step              text not null default 'notify' check (step in ('revoke', 'notify')),
  names             text not null check (names in ('session', 'subject', 'either', 'any')),
  widens            boolean not null,
  -- Whether it ends the sessions of the issuer itself, so that each logout of the issuer is owed to it. Follows from the settings.
  always            boolean not null default false,
  -- Whether its messages need the tokens of a session, so that it is owed only the logouts of posted sessions. Follows from the settings.
  posted            boolean not null default false,
  -- For a channel from which relying parties fetch: {"lastsMs", "onDeadline"}, the time for which a delivery is offered and the state
  -- after it. Null: Curfew sends.
  offer             jsonb check (offer is null or (offer->>'lastsMs')::bigint > 0 and offer->>'onDeadline' in ('lapsed', 'dead_lettered')),
  -- The secret that Curfew sends to the endpoint, a compact JWE under the master key.
  sealed_secret     text,
  -- The weakest acknowledgement that keeps the promise: see level.ts in libs/domain.
  counts            text not null check (counts in ('done', 'partial', 'received', 'begun', 'unconfirmable')),
  -- The kind of the relying party's channel that this one is a fallback for; null if it is required.
  fallback_for      text,
  -- False once the owner removed the endpoint. Plans then skip it.
  registered        boolean not null default true,
  -- Why deliveries to it stop, in words; null when enabled.
  disabled_reason   text,
  -- The registry's revision that first registered it. The SLA compares it with events.registry_revision.
  revision          bigint not null default 0,
  unique (relying_party_id, kind, endpoint)
);

-- Probes: tests of an endpoint with tokens that have no real subject. A probe belongs to a client, registered or not.
create table probes (
  id          uuid primary key,
  issuer      text not null references issuers (name) on delete cascade,
  client_id   text not null,
  -- The channel of the endpoint.
  kind        text not null,
  uri         text not null,
  -- The name of the credential that requested the probe.
  credential  text not null,
  started_at  timestamptz not null default now(),
  ended_at    timestamptz,
  -- Requests with an answer, and all requests.
  sent        integer not null default 0 check (sent >= 0),
  total       integer not null check (total >= sent),
  -- The report as the API returned it, so that a later release can still show it.
  report      jsonb,
  constraint report_exactly_when_ended check ((report is null) = (ended_at is null))
);
-- A client has one probe at a time, whichever console runs it.
create unique index probes_running on probes (issuer, client_id) where ended_at is null;
create index probes_latest on probes (issuer, client_id, started_at desc);
-- Retention, in batches.
create index probes_ended on probes (ended_at) where ended_at is not null;
