import type { NotificationRecord } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

// A webhook gets the notifications that are fanned out after its registration.
const FAN_OUT = `
  with ready as (
    select id, type, issuer from notifications
     where fanned_out_at is null and ready_at <= now()
     order by ready_at limit $1
       for update skip locked
  ),
  owed as (
    insert into webhook_deliveries (webhook, notification_id)
    select w.name, r.id
      from ready r
      join webhooks w on w.enabled and w.disabled_reason is null
       and (w.types is null or r.type = any(w.types)) and (w.issuer is null or w.issuer = r.issuer)
  )
  update notifications n set fanned_out_at = now() from ready where n.id = ready.id`

/** Owes each ready notification to the webhooks that want it. @returns the number of notifications. */
export async function fanOutNotifications(db: Database, { limit }: { limit: number }): Promise<number> {
  const { rowCount } = await db.query({ name: 'fan_out', text: FAN_OUT, values: [limit] })
  return rowCount ?? 0
}

// A notification is published after the fan-out, because it cannot change after that.
const UNPUBLISHED = `
  select id, type, issuer, occurred_at as "occurredAt", data from notifications
   where published_at is null and fanned_out_at is not null
   order by ready_at limit $1`

const MARK_PUBLISHED = 'update notifications set published_at = now() where id = any($1::uuid[])'

/**
 * Passes the oldest unpublished notifications to `publish`, at least once, and marks them as published. Only one bookkeeper at a
 * time does so.
 *
 * @returns the number of published notifications.
 */
export async function publishNotifications(
  db: Database,
  { limit, publish }: { limit: number; publish: (records: readonly NotificationRecord[]) => Promise<void> },
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'publishing'))) return 0
    const { rows } = await transaction.query<NotificationRecord>({
      name: 'list_unpublished',
      text: UNPUBLISHED,
      values: [limit],
    })
    if (rows.length === 0) return 0
    await publish(rows)
    await transaction.query({
      name: 'mark_published',
      text: MARK_PUBLISHED,
      values: [rows.map(({ id }) => id)],
    })
    return rows.length
  })
}

const DELETE_NOTIFICATIONS = `
  delete from notifications where id = any(array(
    select id from notifications where occurred_at < $1 order by occurred_at limit $2))`

/**
 * Deletes one batch of notifications older than `before`, with their webhook deliveries.
 *
 * @returns the number of notifications.
 */
export async function deleteNotifications(
  db: Database,
  { before, limit }: { before: Date; limit: number },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'delete_notifications',
    text: DELETE_NOTIFICATIONS,
    values: [before, limit],
  })
  return rowCount ?? 0
}

const WRITE_TEST = `
  with written as (
    insert into notifications (type, data, fanned_out_at, published_at)
    values ('webhook.test', jsonb_build_object('webhook', $1::text), now(), now()) returning id
  )
  insert into webhook_deliveries (webhook, notification_id) select $1, id from written returning notification_id as id`

/** Owes a test notification to one webhook. @returns the id of the notification. */
export async function writeTestNotification(transaction: Queryable, webhook: string): Promise<string> {
  const { rows } = await transaction.query<{ id: string }>({
    name: 'write_test',
    text: WRITE_TEST,
    values: [webhook],
  })
  const [row] = rows
  if (row === undefined) throw new Error(`write_test returned no row for ${webhook}`)
  return row.id
}
