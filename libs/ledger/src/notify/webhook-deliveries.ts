import type { NotificationRecord } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { counted, integer, SMALLINT_MAX } from '../postgres/counters.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { type WalkedPage, walk, walkSql } from '../postgres/walk.ts'

/** A claimed delivery of a notification to one webhook. */
export interface ClaimedWebhookDelivery {
  readonly position: number
  /** The number of the attempt, from 1. It is also the fencing token: a later claim has a higher number. */
  readonly attempt: number
  readonly webhook: string
  readonly url: string
  readonly allowedNetworks: readonly string[]
  readonly sealedSecret: string
  /** The secret before the last rotation, while it also signs; null otherwise. */
  readonly sealedPreviousSecret: string | null
  readonly notification: Omit<NotificationRecord, 'issuer'>
}

// Claims for each webhook separately, so that the backlog of one is not read for another. A claimed delivery becomes due again
// after its lease, by the database's clock, so that a killed process has nothing to release.
const CLAIM = `
  with due as (
    select d.position
      from webhooks w
      left join unnest($1::text[], $2::int[]) as busy(webhook, count) on busy.webhook = w.name
      cross join lateral (
        select position from webhook_deliveries
         where webhook = w.name and due_at <= now()
         order by due_at limit greatest(0, $3 - coalesce(busy.count, 0))
           for update skip locked
      ) d
     where w.enabled and w.disabled_reason is null
  ),
  claimed as (
    update webhook_deliveries
       set attempts = ${counted('attempts', 1)}, attempted_at = now(), due_at = now() + make_interval(secs => $4::float8 / 1000)
     where position = any(array(select position from due))
    returning position, attempts, webhook, notification_id
  )
  select c.position, c.attempts as attempt, w.name as webhook, w.url, w.allowed_networks as "allowedNetworks",
         w.sealed_secret as "sealedSecret",
         case when w.previous_secret_until > now() then w.sealed_previous_secret end as "sealedPreviousSecret",
         n.id, n.type, n.occurred_at as "occurredAt", n.data
    from claimed c
    join webhooks w on w.name = c.webhook
    join notifications n on n.id = c.notification_id
   order by c.position`

type ClaimedRow = Omit<ClaimedWebhookDelivery, 'notification'> & ClaimedWebhookDelivery['notification']

/**
 * Claims the due webhook deliveries for `leaseMs`.
 *
 * @param busy the number of deliveries that the caller is sending, by webhook.
 * @param most the most deliveries that the caller may send to one webhook at once.
 */
export async function claimWebhookDeliveries(
  db: Database,
  { busy, most, leaseMs }: { busy: ReadonlyMap<string, number>; most: number; leaseMs: number },
): Promise<readonly ClaimedWebhookDelivery[]> {
  const { rows } = await db.query<ClaimedRow>({
    name: 'claim_webhook_deliveries',
    text: CLAIM,
    values: [plainArray([...busy.keys()]), plainArray([...busy.values()]), most, leaseMs],
  })
  return rows.map(({ id, type, occurredAt, data, ...claimed }) => ({
    ...claimed,
    notification: { id, type, occurredAt, data },
  }))
}

/** The outcome of an attempt, and the next state of the delivery. */
export type WebhookSettlement = {
  /** HTTP status; null without an answer. */
  readonly status: number | null
  /** The error, for people; null without one. */
  readonly error: string | null
} & (
  | { readonly state: 'delivered' }
  /** The next attempt follows after `retryMs`. */
  | { readonly state: 'pending'; readonly retryMs: number }
  /** `disable`: why the webhook is disabled; null if it is not. */
  | { readonly state: 'failed'; readonly disable: string | null }
)

/**
 * SQL that records the outcome of an attempt, unless the message was claimed again. Its parameters are the key, and `settledValues`.
 */
export const settleAttempt = (table: string, key: string) => `
  update ${table}
     set state = $3, status = $5, error = $6, settled_at = case when $3 <> 'pending' then now() end,
         due_at = case when $3 = 'pending' then now() + make_interval(secs => $4::float8 / 1000) end
   where ${key} = $1 and attempts = $2 and state = 'pending'`

export function settledValues(attempt: number, settlement: WebhookSettlement): readonly unknown[] {
  const { state, status, error } = settlement
  const retryMs = settlement.state === 'pending' ? settlement.retryMs : null
  return [attempt, state, retryMs, status === null ? null : integer(status, SMALLINT_MAX), error]
}

const SETTLE = settleAttempt('webhook_deliveries', 'position')

// Only if the URL is unchanged: after a change, the failure says nothing about the new URL.
const DISABLE = `
  update webhooks set disabled_reason = $3, updated_at = now() where name = $1 and url = $2 and disabled_reason is null`

/** Records the outcome of an attempt. @returns false, and records nothing, if the delivery was claimed again or deleted. */
export async function settleWebhookDelivery(
  db: Database,
  { claimed, settlement }: { claimed: ClaimedWebhookDelivery; settlement: WebhookSettlement },
): Promise<boolean> {
  const disable = settlement.state === 'failed' ? settlement.disable : null
  return withTransaction(db, async (transaction) => {
    const { rowCount } = await transaction.query({
      name: 'settle_webhook_delivery',
      text: SETTLE,
      values: [claimed.position, ...settledValues(claimed.attempt, settlement)],
    })
    if (rowCount !== 1) return false
    if (disable !== null) {
      await transaction.query({
        name: 'disable_webhook',
        text: DISABLE,
        values: [claimed.webhook, claimed.url, disable],
      })
    }
    return true
  })
}

/** The delivery of a notification to one webhook. */
export interface WebhookDeliveryRecord {
  readonly position: number
  /** The notification's id, which the receiver gets as `webhook-id`. */
  readonly id: string
  readonly type: string
  readonly state: 'pending' | 'delivered' | 'failed'
  readonly attempts: number
  readonly createdAt: Date
  readonly attemptedAt: Date | null
  readonly dueAt: Date | null
  readonly settledAt: Date | null
  readonly status: number | null
  readonly error: string | null
}

const LIST = {
  name: 'list_webhook_deliveries',
  text: walkSql({
    table: 'webhook_deliveries',
    key: ['position'],
    order: 'desc',
    byParts: false,
    where: 't.webhook = $4::text and t.position < $5::bigint',
    columns: ['state'],
    filter: '($6::text is null or w.state = $6)',
    returned: 'w.position',
  }),
}
const RECORDS = `
  select d.position, n.id, n.type, d.state, d.attempts, d.created_at as "createdAt", d.attempted_at as "attemptedAt",
         d.due_at as "dueAt", d.settled_at as "settledAt", d.status, d.error
    from webhook_deliveries d join notifications n on n.id = d.notification_id
   where d.position = any($1::bigint[])
   order by d.position desc`

/** Lists the deliveries of a webhook, the latest first. @param before the last position of the page before. */
export async function listWebhookDeliveries(
  db: Database,
  {
    webhook,
    state,
    before,
    limit,
  }: { webhook: string; state: string | null; before: number | null; limit: number },
): Promise<WalkedPage<WebhookDeliveryRecord, number>> {
  const { keys, reached } = await walk<{ position: number }>(db, LIST, {
    ...{ parts: null, limit },
    values: [webhook, before ?? Number.MAX_SAFE_INTEGER, state],
  })
  const positions = plainArray(keys.map(({ position }) => position))
  const { rows } = await db.query<WebhookDeliveryRecord>({ text: RECORDS, values: [positions] })
  return { rows, reached: reached?.position ?? null }
}
