-- Quarantine: records that were accepted and could not be planned or applied, from every event log, and what a person decided about
-- each of them.

alter table quarantined_records drop constraint quarantined_records_lane_log_position_key;
drop index quarantined_records_at;

alter table quarantined_records
  -- UTF-8. Text cannot hold a NUL, and a record must never be refused here.
  alter column key type bytea using convert_to(key, 'UTF8'),
  -- The length of the whole value, and its SHA-256. `value` may hold its beginning only.
  add column value_bytes bigint,
  add column value_sha256 bytea,
  -- Whether value, key or headers are kept in part only. Such a record cannot be requeued.
  add column cut_short boolean not null default false,
  -- Why it is here, for programs; `reason` says it in words.
  add column kind text,
  -- The issuer and the event, where every part of the record that names one agrees; else null.
  add column iss text,
  add column event_id uuid,
  -- When the bookkeeper wrote the notification about it.
  add column noticed_at timestamptz,
  add column state text not null default 'waiting'
    constraint quarantined_records_state_check
    check (state in ('waiting', 'requeue_requested', 'requeued', 'dismissed')),
  -- Name of the credential that asked for the requeue or dismissed the record, and when.
  add column decided_by text,
  add column decided_at timestamptz,
  -- Why the event log refused the record when it was last appended again; null if it did not.
  add column requeue_error text;

-- Headers of an older record may hold escapes that PostgreSQL cannot read as text; such a record names no issuer.
update quarantined_records
   set value_bytes = octet_length(value),
       value_sha256 = sha256(value),
       kind = case when reason like 'event % is known with another content' then 'conflict'
                   when reason like 'the ledger refused it:%' then 'refused'
                   else 'unreadable' end,
       iss = case when headers::text !~ '\\u' and length(headers ->> 'ce_source') <= 512 then headers ->> 'ce_source' end,
       event_id = case when lane <> 'sessions' and headers::text !~ '\\u'
                        and headers ->> 'ce_id' ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                       then (headers ->> 'ce_id')::uuid end;

alter table quarantined_records
  alter column value_bytes set not null,
  alter column value_sha256 set not null,
  alter column kind set not null,
  add constraint quarantined_records_kind_check check (kind in ('unreadable', 'conflict', 'refused')),
  add constraint decided_exactly_unless_waiting check (
    (state = 'waiting') = (decided_at is null) and (decided_at is null) = (decided_by is null)),
  add constraint cut_short_stays check (not cut_short or state in ('waiting', 'dismissed')),
  -- A repeated commit writes a record once. A topic that was deleted and made again counts from 0 again, so the position alone
  -- does not name a record.
  add constraint quarantined_records_once unique (lane, log_position, value_sha256);

-- What waits for a person, for the count; what a bookkeeper has to do; what is too old.
create index quarantined_records_waiting on quarantined_records (lane) where state = 'waiting';
create index quarantined_records_unnoticed on quarantined_records (id) where noticed_at is null;
create index quarantined_records_requests on quarantined_records (decided_at) where state = 'requeue_requested';
create index quarantined_records_decided on quarantined_records (decided_at) where state in ('requeued', 'dismissed');
create index quarantined_records_old_sessions on quarantined_records (quarantined_at)
  where lane = 'sessions' and state = 'waiting';
-- Lists of one issuer, and an event that somebody asks for.
create index quarantined_records_of_issuer on quarantined_records (iss, id);
create index quarantined_records_of_event on quarantined_records (event_id) where event_id is not null;
