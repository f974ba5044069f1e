-- What operators are told of: an outbox of notifications, the webhooks that they go to, and who says that an RP is down.

-- Written by whoever learns of something, in the transaction in which it is learned. Bookkeepers pass it on.
create table notifications (
  -- Also what receivers know it by: `webhook-id`, and `ce_id` on Kafka.
  id             uuid primary key default gen_random_uuid(),
  type           text not null check (type ~ '^[a-z_]+\.[a-z_]+$'),
  -- What it is about, as far as it is about one: short name of the issuer, and the binding.
  issuer         text,
  binding_id     bigint,
  occurred_at    timestamptz not null default now(),
  -- As receivers get it.
  data           jsonb not null,
  -- Until then more of the same kind is added to it, rather than told by itself.
  ready_at       timestamptz not null default now(),
  -- When it was handed to the webhooks that want it. It is never changed from then on.
  fanned_out_at  timestamptz,
  -- When it was published to Kafka; null for ever where there is none.
  published_at   timestamptz
);
create index notifications_ready on notifications (ready_at) where fanned_out_at is null;
create index notifications_unpublished on notifications (ready_at) where published_at is null;
create index notifications_occurred on notifications (occurred_at);

create table webhooks (
  name                    text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  url                     text not null,
  -- Null: every type, and of every issuer.
  types                   text[],
  issuer                  text,
  allowed_networks        text[] not null,
  -- Its owner's wish.
  enabled                 boolean not null,
  -- Why nothing is sent to it all the same, in words; null mostly.
  disabled_reason         text,
  -- Compact JWEs under the master key.
  sealed_secret           text not null,
  sealed_previous_secret  text,
  previous_secret_until   timestamptz,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now(),
  constraint previous_secret_ends check ((sealed_previous_secret is null) = (previous_secret_until is null))
);

-- What is owed to a webhook. A claim makes it due again after the lease, so what a killed bookkeeper held comes back by itself.
create table webhook_deliveries (
  position         bigint generated always as identity primary key,
  webhook          text not null references webhooks (name) on delete cascade,
  notification_id  uuid not null references notifications (id) on delete cascade,
  state            text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  attempts         smallint not null default 0 check (attempts >= 0),
  created_at       timestamptz not null default now(),
  due_at           timestamptz default now(),
  attempted_at     timestamptz,
  settled_at       timestamptz,
  -- What the last attempt came to.
  status           smallint,
  error            text,
  unique (notification_id, webhook),
  constraint webhook_due_exactly_while_pending check ((state = 'pending') = (due_at is not null)),
  constraint webhook_settled_exactly_when_over check ((state = 'pending') = (settled_at is null))
);
create index webhook_deliveries_due on webhook_deliveries (webhook, due_at) where due_at is not null;
create index webhook_deliveries_of_webhook on webhook_deliveries (webhook, position);

-- Which workers know which bindings to be down. A worker's rows go with the worker.
create table breakers (
  binding_id  bigint not null,
  worker_id   uuid not null references workers (id) on delete cascade,
  opened_at   timestamptz not null default now(),
  primary key (binding_id, worker_id)
);
create index breakers_of_worker on breakers (worker_id);

-- What was said of a binding's breaker the last time.
create table breaker_notices (
  binding_id   bigint primary key,
  opened_at    timestamptz not null,
  -- Null while the last word is that it is open.
  closed_at    timestamptz,
  -- When an answer came, since it was said to be open.
  answered_at  timestamptz,
  -- Since when no worker says that it is down, though no answer came: they ended, and the next may find it down still.
  left_at      timestamptz
);

-- When an attempt was written down, by the database's clock: what follows the ledger reads what was recorded since the last
-- time. Attempts are only ever added, so that it grows from page to page and so small an index finds it.
alter table attempts add column recorded_at timestamptz not null default now();
create index attempts_recorded on attempts using brin (recorded_at) with (pages_per_range = 32, autosummarize = on);

-- One row at most: acknowledgements recorded before then were published. None until somebody listens.
create table outcomes_published (
  only_row   boolean primary key default true check (only_row),
  until_at   timestamptz not null
);
