-- Several endpoints for one relying party, removal, and what changes say of themselves.

-- Removed issuers and relying parties stay, for history and keys hang on them; nobody sees them or is told for them.
alter table issuers
  -- Whether its sessions have a sid, which relying parties may require.
  add column sid_supported boolean not null default true,
  add column deleted_at timestamptz;

alter table relying_parties
  add column deleted_at timestamptz,
  -- What we use of its metadata, in whichever product's words that is written.
  add column client_name       text,
  add column session_required  boolean not null default false,
  add column algorithm         text not null default 'RS256';
update relying_parties
   set client_name = metadata ->> 'client_name',
       session_required = metadata -> 'backchannel_logout_session_required' is not distinct from 'true'::jsonb,
       algorithm = coalesce(metadata ->> 'id_token_signed_response_alg', 'RS256');

alter table bindings
  -- Its name among those of the relying party: main is backchannel_logout_uri, the others are named by their owner.
  add column endpoint text not null default 'main',
  drop constraint bindings_relying_party_id_kind_key,
  add unique (relying_party_id, kind, endpoint);
alter table bindings alter column endpoint drop default;
-- Finds the other client that has a URI already.
create index bindings_uri on bindings (uri) where registered;
