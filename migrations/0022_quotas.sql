-- How many sessions and relying parties an issuer may have.

alter table issuers
  -- Quotas of this issuer alone; null: as the deployment has them.
  add column sessions_max bigint check (sessions_max >= 0),
  add column relying_parties_max integer check (relying_parties_max >= 0);

alter table session_issuers
  -- How many rows the session index has of this issuer: counted now and then, from a sample where the index is large. Null until
  -- it was counted.
  add column sessions_counted bigint,
  -- Since when it has more sessions than its quota; null while it has not. New sessions of it are refused then.
  add column over_quota_since timestamptz,
  -- Sessions were refused, and may live until then; null: the index is whole. While it is not null the index is partial,
  -- whatever the issuer says of it. It only grows, until it is past.
  add column gaps_until timestamptz,
  add constraint over_quota_leaves_gaps check (over_quota_since is null or gaps_until is not null);

-- Every process that takes sessions in asks for these every few seconds.
create index session_issuers_over_quota on session_issuers (iss) where over_quota_since is not null;
