import { createHmac } from 'node:crypto'
import type { Answer, NetworkAccess } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'
import type { TlsIdentity } from './tls-identity.ts'

/** The fewest and most bytes of a secret (Standard Webhooks, "Signature scheme"). */
const SECRET_BYTES_MIN = 24
const SECRET_BYTES_MAX = 64
const SECRET = /^whsec_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/

/** The bytes of a written secret (`whsec_` and base64); null if the text is not a secret. */
export function parseWebhookSecret(text: string): Uint8Array | null {
  const [, base64] = SECRET.exec(text) ?? []
  if (base64 === undefined) return null
  const bytes = Buffer.from(base64, 'base64')
  return bytes.length >= SECRET_BYTES_MIN && bytes.length <= SECRET_BYTES_MAX ? bytes : null
}

export interface WebhookRequest extends NetworkAccess {
  readonly url: string
  /** The receiver's own CA and our certificate for it. Default null, as in other requests. */
  readonly tls?: TlsIdentity | null
  /** Equal in every attempt to send the same message, so that a receiver recognises a repetition. */
  readonly id: string
  /** The time of this attempt. */
  readonly sentAt: Date
  /** JSON. */
  readonly body: string
  /** In their written form. A receiver accepts the message if it knows one of them. */
  readonly secrets: readonly string[]
  /** From this call to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
}

/**
 * Sends a webhook in the form of Standard Webhooks: JSON, with its id, the time, and a signature by each secret in headers. Never
 * rejects because of the receiver.
 */
export function postWebhook(client: Pick<GuardedClient, 'post'>, request: WebhookRequest): Promise<Answer> {
  const { url, id, body, sentAt, secrets, ...how } = request
  const timestamp = Math.floor(sentAt.getTime() / 1_000)
  return client.post({
    ...how,
    uri: url,
    body,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'curfew',
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': secrets.map((secret) => signature(secret, id, timestamp, body)).join(' '),
    },
  })
}

function signature(secret: string, id: string, timestamp: number, body: string): string {
  const key = parseWebhookSecret(secret)
  if (key === null) throw new Error('a stored webhook secret is malformed; replace the secret')
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
}
