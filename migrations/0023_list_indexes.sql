-- Lists of the API are read along an index, whatever they are filtered by.

-- Finds the clients of one client_id at all issuers.
create index relying_parties_client on relying_parties (client_id);

-- Orphans in the order of their list, of all issuers and of one. Many are orphaned by one statement, at the same instant, so the
-- instant alone does not sort them.
drop index sessions_orphaned;
create index sessions_orphaned on sessions (orphaned_at, issuer, sub, sid, client_id) where orphaned_at is not null;
create index sessions_orphaned_of_issuer on sessions (issuer, orphaned_at, sub, sid, client_id) where orphaned_at is not null;

-- Issuer logouts in the order of their list. Neither column changes, so counting what became of them stays a heap-only update.
create index issuer_logouts_requested on issuer_logouts (requested_at, event_id);
create index issuer_logouts_of_issuer on issuer_logouts (iss, requested_at, event_id);

-- What one webhook was sent is read by `webhook_deliveries_of_webhook` (webhook, position); deliveries by their primary key and by
-- `deliveries_binding` (binding_id, id); dead letters by `deliveries_dead` and `deliveries_dead_of_binding`.
