-- API keys. Everybody who calls is one of these, a key of the environment, or has an access token.
create table api_keys (
  id                   uuid primary key,
  -- For logs and audit. One that is revoked leaves its name to the next.
  name                 text not null,
  -- SHA-256. The key itself is kept nowhere.
  hash                 bytea not null unique check (length(hash) = 32),
  -- Its first characters, so that its owner knows it again.
  hint                 text not null,
  scopes               text[] not null check (cardinality(scopes) > 0),
  -- What it is bound to: everything, an issuer, or clients of one.
  issuer               text references issuers (name),
  clients              text[] check (cardinality(clients) > 0),
  requests_per_second  integer check (requests_per_second > 0),
  created_at           timestamptz not null default now(),
  created_by           text not null,
  expires_at           timestamptz,
  revoked_at           timestamptz,
  revoked_by           text,
  last_used_at         timestamptz,
  constraint clients_are_an_issuers check (clients is null or issuer is not null),
  constraint revoked_by_somebody check ((revoked_at is null) = (revoked_by is null))
);
create unique index api_keys_name on api_keys (name) where revoked_at is null;
create index api_keys_created on api_keys (created_at, id);
