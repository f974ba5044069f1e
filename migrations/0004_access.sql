-- API keys and the audit trail.

-- API keys. The other credentials are keys of the environment and access tokens.
create table api_keys (
  id                   uuid primary key,
  -- For logs and audit. A revoked key leaves its name to the next key.
  name                 text not null,
  -- SHA-256. The key itself is stored nowhere.
  hash                 bytea not null unique check (length(hash) = 32),
  -- The first characters of the key, so that its owner recognises it.
  hint                 text not null,
  scopes               text[] not null check (cardinality(scopes) > 0),
  -- The access filter: an issuer, or some of its clients. Both null: everything.
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
  constraint revocation_has_actor check ((revoked_at is null) = (revoked_by is null))
);
create unique index api_keys_name on api_keys (name) where revoked_at is null;
create index api_keys_created on api_keys (created_at, id);

-- A sequence, not an identity column: PostgreSQL 16 does not support those on partitions.
create sequence audit_number;
-- Every change, and the credential that made it. Rows never change. The table has a partition for each month, so that retention drops
-- partitions and does not delete row by row.
create table audit (
  id             bigint not null default nextval('audit_number'),
  at             timestamptz not null default now(),
  credential     text not null,
  -- The API key that acted, because another key may take its name once it is revoked. Null: a key of the environment, an access
  -- token, or Curfew itself.
  credential_id  uuid,
  action         text not null,
  object         text not null,
  detail         jsonb not null,
  primary key (id, at)
) partition by range (at);
comment on column audit.credential_id is 'Id of the API key that acted; null where none did';
alter sequence audit_number owned by audit.id;
-- A record whose month has no partition goes here, so that none is refused.
create table audit_default partition of audit default;
