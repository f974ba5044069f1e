-- Signing keys, and their rotation. A key is published before it signs, and stays published for a while after it signs.

create table signing_keys (
  kid                 text not null,
  issuer              text not null references issuers (name),
  algorithm           text not null,
  public_jwk          jsonb not null,
  -- Where the private key is. For `remote`, sealed_private_key holds how to reach the signer.
  source              text not null check (source in ('generated', 'imported', 'remote')),
  -- A compact JWE under the master key. The private key is stored nowhere else.
  sealed_private_key  text not null,
  created_at          timestamptz not null,
  published_at        timestamptz not null,
  -- The key signs from then on, until a key with a later time does.
  signs_from          timestamptz not null,
  -- When the key was retired, so that it never signs again.
  retired_at          timestamptz,
  -- The key left the key set at once: its private key may be known to others.
  withdrawn_at        timestamptz,
  -- A kid is unique only within its issuer, because an IdP names its keys as it likes.
  primary key (issuer, kid),
  constraint published_before_it_signs check (published_at <= signs_from)
);

-- How often Curfew replaces the keys that it generated. No row: never.
create table key_rotations (
  issuer      text primary key references issuers (name) on delete cascade,
  every_days  integer not null check (every_days > 0)
);
