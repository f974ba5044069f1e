import { writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { writeTestNotification } from './notifications.ts'

/** The settings of a webhook, which its owner makes. */
export interface WebhookSettings {
  readonly url: string
  /** Types of notifications that the webhook gets; null: all types. */
  readonly types: readonly string[] | null
  /** Short name of the issuer whose notifications it gets; null: those of every issuer and of none. */
  readonly issuer: string | null
  /** CIDRs that its URL may lead to, in addition to those of the deployment. */
  readonly allowedNetworks: readonly string[]
  readonly enabled: boolean
}

/** A registered webhook. */
export interface WebhookRecord extends WebhookSettings {
  readonly name: string
  /** Why deliveries stopped although it is enabled; null if they did not. */
  readonly disabledReason: string | null
  /** The secret before the last rotation also signs until this time; null if it does not sign. */
  readonly previousSecretUntil: Date | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

const COLUMNS = `name, url, types, issuer, allowed_networks as "allowedNetworks", enabled,
  disabled_reason as "disabledReason", case when previous_secret_until > now() then previous_secret_until end as "previousSecretUntil",
  created_at as "createdAt", updated_at as "updatedAt"`

const FIND_WEBHOOK = `select ${COLUMNS} from webhooks where name = $1`

export async function findWebhook(db: Queryable, name: string): Promise<WebhookRecord | null> {
  const { rows } = await db.query<WebhookRecord>({ name: 'find_webhook', text: FIND_WEBHOOK, values: [name] })
  return rows[0] ?? null
}

const LIST_WEBHOOKS = `select ${COLUMNS} from webhooks where name > $1 order by name limit $2`

/** Lists webhooks by name. @param after the last name of the page before. */
export async function listWebhooks(
  db: Database,
  { after, limit }: { after: string; limit: number },
): Promise<readonly WebhookRecord[]> {
  const { rows } = await db.query<WebhookRecord>({ text: LIST_WEBHOOKS, values: [after, limit] })
  return rows
}

/** Most webhooks. The number is limited because every webhook has its own limit of concurrent deliveries. */
export const WEBHOOKS_MAX = 100

const CREATE_WEBHOOK = `
  insert into webhooks (name, url, types, issuer, allowed_networks, enabled, sealed_secret)
  select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from webhooks) < ${WEBHOOKS_MAX}
  on conflict (name) do nothing
  returning ${COLUMNS}`

/**
 * Registers a webhook and writes the audit entry.
 *
 * @param sealedSecret its signing secret, sealed under the master key.
 * @returns null if the name is taken, or there are already `WEBHOOKS_MAX` webhooks.
 */
export async function createWebhook(
  db: Database,
  {
    name,
    settings,
    sealedSecret,
    by,
  }: { name: string; settings: WebhookSettings; sealedSecret: string; by: string },
): Promise<WebhookRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<WebhookRecord>({
      name: 'create_webhook',
      text: CREATE_WEBHOOK,
      values: [name, ...valuesOf(settings), sealedSecret],
    })
    const [created] = rows
    if (created === undefined) return null
    await note(transaction, { by, action: 'webhook.created', name, detail: detailOf(settings) })
    return created
  })
}

// A change by the owner enables deliveries again: it is taken to have removed the cause of the failure.
const CHANGE_WEBHOOK = `
  update webhooks set url = $2, types = $3, issuer = $4, allowed_networks = $5, enabled = $6, disabled_reason = null,
    updated_at = now()
   where name = $1
  returning ${COLUMNS}`

/** Changes a webhook's settings, not its secret, and writes the audit entry. @returns null if the webhook does not exist. */
export async function changeWebhook(
  db: Database,
  { name, settings, by }: { name: string; settings: WebhookSettings; by: string },
): Promise<WebhookRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<WebhookRecord>({
      name: 'change_webhook',
      text: CHANGE_WEBHOOK,
      values: [name, ...valuesOf(settings)],
    })
    const [changed] = rows
    if (changed === undefined) return null
    await note(transaction, { by, action: 'webhook.changed', name, detail: detailOf(settings) })
    return changed
  })
}

const DELETE_WEBHOOK = 'delete from webhooks where name = $1'

/** Deletes a webhook with its deliveries and writes the audit entry. @returns whether it existed. */
export async function deleteWebhook(
  db: Database,
  { name, by }: { name: string; by: string },
): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    const { rowCount } = await transaction.query({
      name: 'delete_webhook',
      text: DELETE_WEBHOOK,
      values: [name],
    })
    if (rowCount === 0) return false
    await note(transaction, { by, action: 'webhook.deleted', name, detail: {} })
    return true
  })
}

// At most two secrets sign. A secret that still signs since an earlier rotation is dropped.
const ROTATE_SECRET = `
  update webhooks
     set sealed_previous_secret = sealed_secret, previous_secret_until = now() + make_interval(secs => $3::float8 / 1000),
         sealed_secret = $2, updated_at = now()
   where name = $1
  returning ${COLUMNS}`

/**
 * Gives a webhook a new secret and writes the audit entry. The previous secret also signs for `overlapMs`.
 *
 * @returns null if the webhook does not exist.
 */
export async function rotateWebhookSecret(
  db: Database,
  {
    name,
    sealedSecret,
    overlapMs,
    by,
  }: { name: string; sealedSecret: string; overlapMs: number; by: string },
): Promise<WebhookRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<WebhookRecord>({
      name: 'rotate_secret',
      text: ROTATE_SECRET,
      values: [name, sealedSecret, overlapMs],
    })
    const [rotated] = rows
    if (rotated === undefined) return null
    await note(transaction, { by, action: 'webhook.secret_rotated', name, detail: {} })
    return rotated
  })
}

const LOCK_WEBHOOK =
  'select enabled and disabled_reason is null as sends from webhooks where name = $1 for key share'

/**
 * Owes a webhook a test notification and writes the audit entry.
 *
 * @returns the id of the notification, `disabled` if the webhook gets no deliveries, or null if it does not exist.
 */
export async function testWebhook(
  db: Database,
  { name, by }: { name: string; by: string },
): Promise<{ readonly id: string } | 'disabled' | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ sends: boolean }>({
      name: 'lock_webhook',
      text: LOCK_WEBHOOK,
      values: [name],
    })
    const [row] = rows
    if (row === undefined) return null
    if (!row.sends) return 'disabled'
    const id = await writeTestNotification(transaction, name)
    await note(transaction, { by, action: 'webhook.tested', name, detail: { id } })
    return { id }
  })
}

function valuesOf({ url, types, issuer, allowedNetworks, enabled }: WebhookSettings): readonly unknown[] {
  return [url, types, issuer, allowedNetworks, enabled]
}

/** The settings for the audit trail. Of the URL it has only the origin, because path and query may contain a secret. */
function detailOf({
  url,
  types,
  issuer,
  allowedNetworks,
  enabled,
}: WebhookSettings): Readonly<Record<string, unknown>> {
  return { origin: new URL(url).origin, types, issuer, allowed_networks: allowedNetworks, enabled }
}

async function note(
  transaction: Queryable,
  {
    by,
    action,
    name,
    detail,
  }: { by: string; action: string; name: string; detail: Readonly<Record<string, unknown>> },
): Promise<void> {
  await writeAudit(transaction, { credential: by, action, object: `/v1/webhooks/${name}`, detail })
}
