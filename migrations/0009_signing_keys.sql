-- Signing keys get a life: published before they sign, published for a while after.
--
-- What the release before this one does meanwhile: it goes on signing with the first key of an issuer and algorithm, which
-- is published as long as no rotation was asked for; it cannot make a key for an algorithm that an issuer had none for, and
-- answers such a registration with a 500 until it is replaced.

alter table signing_keys
  -- Where the private part is: generated here, imported, or elsewhere; sealed_private_key then holds how to reach its signer.
  add column source text not null default 'generated' check (source in ('generated', 'imported', 'remote')),
  add column published_at timestamptz,
  -- From then on it signs, until one with a later time does.
  add column signs_from timestamptz,
  -- It signs no more from then on, and follows no other.
  add column retired_at timestamptz,
  -- Out of the key set at once: somebody else may have the private part.
  add column withdrawn_at timestamptz;
update signing_keys set published_at = created_at, signs_from = created_at;
alter table signing_keys
  alter column published_at set not null,
  alter column signs_from set not null,
  add constraint published_before_it_signs check (published_at <= signs_from),
  drop constraint signing_keys_issuer_algorithm_key,
  -- A kid is its issuer's: an IdP names its keys as it likes.
  drop constraint signing_keys_pkey,
  add primary key (issuer, kid);

-- How often keys that were generated here are replaced by themselves. No row: never.
create table key_rotations (
  issuer      text primary key references issuers (name) on delete cascade,
  every_days  integer not null check (every_days > 0)
);

-- How a relying party wants its tokens encrypted, out of its metadata: alg, enc, and jwks or jwks_uri. Null: not at all.
alter table relying_parties add column encryption jsonb;
