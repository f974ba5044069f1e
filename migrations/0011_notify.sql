-- Notifications for operators and the webhooks that receive them, and confirmations to the clients that start logouts.

-- An outbox. The transaction that finds a condition writes the notification about it, and bookkeepers send it.
create table notifications (
  -- Receivers see it as `webhook-id`, and as `ce_id` on Kafka.
  id             uuid primary key default gen_random_uuid(),
  type           text not null check (type ~ '^[a-z_]+\.[a-z_]+$'),
  -- The issuer's short name and the binding, if the notification is about one.
  issuer         text,
  binding_id     bigint,
  occurred_at    timestamptz not null default now(),
  -- As receivers get it.
  data           jsonb not null,
  -- Until then, more events of the same kind join this notification.
  ready_at       timestamptz not null default now(),
  -- When the notification was assigned to its webhooks. The data never changes from then on.
  fanned_out_at  timestamptz,
  -- When the notification was published to Kafka; null without Kafka.
  published_at   timestamptz
);
create index notifications_ready on notifications (ready_at) where fanned_out_at is null;
create index notifications_unpublished on notifications (ready_at) where published_at is null;
create index notifications_occurred on notifications (occurred_at);

create table webhooks (
  name                    text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  url                     text not null,
  -- Null: every type, and every issuer.
  types                   text[],
  issuer                  text,
  allowed_networks        text[] not null,
  -- The owner's choice.
  enabled                 boolean not null,
  -- Why Curfew sends nothing even if it is enabled, in words; else null.
  disabled_reason         text,
  -- Compact JWEs under the master key.
  sealed_secret           text not null,
  sealed_previous_secret  text,
  previous_secret_until   timestamptz,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now(),
  constraint previous_secret_ends check ((sealed_previous_secret is null) = (previous_secret_until is null))
);

-- One row for each notification owed to a webhook. A claim sets due_at to the end of the lease, so that the claims of a killed
-- bookkeeper come back by themselves.
create table webhook_deliveries (
  position         bigint generated always as identity primary key,
  webhook          text not null references webhooks (name) on delete cascade,
  notification_id  uuid not null references notifications (id) on delete cascade,
  state            text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  -- Claims. Each may end in an attempt; a bookkeeper that is killed while it sends leaves a claim without a settlement.
  attempts         integer not null default 0 check (attempts >= 0),
  created_at       timestamptz not null default now(),
  due_at           timestamptz default now(),
  attempted_at     timestamptz,
  settled_at       timestamptz,
  -- The result of the last attempt.
  status           smallint,
  error            text,
  unique (notification_id, webhook),
  constraint webhook_due_exactly_while_pending check ((state = 'pending') = (due_at is not null)),
  constraint webhook_settled_exactly_when_over check ((state = 'pending') = (settled_at is null))
);
create index webhook_deliveries_due on webhook_deliveries (webhook, due_at) where due_at is not null;
-- The list of a webhook's deliveries.
create index webhook_deliveries_of_webhook on webhook_deliveries (webhook, position);

-- One row for each logout whose initiating client registered a confirmation_uri. A claim sets due_at to the end of the lease, as in
-- webhook_deliveries. No column names a subject or a session: the message takes the sid from the event, so that an erasure of the
-- event suffices. The row is deleted with its event.
create table confirmations (
  -- The receiver sees it as `webhook-id`.
  id                uuid primary key default gen_random_uuid(),
  -- The order of lists. It has no index of its own: a list would read it, and skip the rows of other clients.
  position          bigint generated always as identity,
  event_id          uuid not null unique,
  relying_party_id  bigint not null references relying_parties (id),
  state             text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  -- Claims, as in webhook_deliveries.
  attempts          integer not null default 0 check (attempts >= 0),
  created_at        timestamptz not null default now(),
  deadline_at       timestamptz not null,
  -- The deadline, until the event is settled. Then the time of the next attempt.
  due_at            timestamptz,
  attempted_at      timestamptz,
  settled_at        timestamptz,
  -- The result of the last attempt.
  status            smallint,
  error             text,
  -- The message, without the sid. It is written before the first attempt and never changes.
  written_at        timestamptz,
  message           jsonb,
  constraint confirmation_due_exactly_while_pending check ((state = 'pending') = (due_at is not null)),
  constraint confirmation_settled_exactly_when_over check ((state = 'pending') = (settled_at is null)),
  constraint message_exactly_when_written check ((message is null) = (written_at is null))
);
create index confirmations_due on confirmations (relying_party_id, due_at) where due_at is not null;
-- Confirmations that wait for their event. Few, so that the projector sees at once whether there are any.
create index confirmations_waiting on confirmations (event_id) where due_at is not null and attempts = 0;
-- The list of a client's confirmations.
create unique index confirmations_of_client on confirmations (relying_party_id, position);
