-- Limits that outlast what they limit: the networks of a registration, and the key behind a name in the audit.

-- The networks that an administrator set, as {"networks": [CIDR, …], "by": "admin" | "issuer"}; null where none did. A
-- registration goes beyond the deployment's networks only by a rule of "admin". The rule stays when the row is marked as
-- deleted, so that a removal and a new registration do not lift it.
alter table relying_parties add column network_rule jsonb;
alter table issuers add column network_rule jsonb;
comment on column relying_parties.network_rule is 'Networks that a credential above the owner set; it outlasts a removal';
comment on column issuers.network_rule is 'Networks that an unbound admin set; it outlasts a removal';

-- The API key that acted. Another key may have its name once it is revoked. Null: a key of the environment, an access token,
-- Curfew itself, or a record from before this column.
alter table audit add column credential_id uuid;
comment on column audit.credential_id is 'Id of the API key that acted; null where none did';
