import { createHmac } from 'node:crypto'
import type { Answer } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'

/** The least and most bytes of a secret (Standard Webhooks, "Signature scheme"). */
const SECRET_BYTES_MIN = 24
const SECRET_BYTES_MAX = 64
const SECRET = /^whsec_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/

/** The bytes of a secret as it is written (`whsec_` and base64), or null when it is none. */
export function parseWebhookSecret(text: string): Uint8Array | null {
  const [, base64] = SECRET.exec(text) ?? []
  if (base64 === undefined) return null
  const bytes = Buffer.from(base64, 'base64')
  return bytes.length >= SECRET_BYTES_MIN && bytes.length <= SECRET_BYTES_MAX ? bytes : null
}

export interface WebhookRequest {
  readonly url: string
  /** CIDRs that it may live at, beside the deployment's: an unbound admin registered it. */
  readonly allowedNetworks: readonly string[]
  /** The same each time that the same is sent, so that a receiver can tell. */
  readonly id: string
  /** Of this attempt. */
  readonly sentAt: Date
  /** JSON. */
  readonly body: string
  /** As they are written; the receiver takes it when it knows one of them. */
  readonly secrets: readonly string[]
  /** From this call to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
}

/**
 * Sends a webhook as Standard Webhooks has it: JSON, and in headers its id, the time, and a signature by each secret. Never
 * rejects for what the receiver did.
 */
export function postWebhook(client: Pick<GuardedClient, 'post'>, request: WebhookRequest): Promise<Answer> {
  const { id, body, timeoutMs, allowedNetworks } = request
  const timestamp = Math.floor(request.sentAt.getTime() / 1_000)
  return client.post({
    uri: request.url,
    body,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'curfew',
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': request.secrets.map((secret) => signature(secret, id, timestamp, body)).join(' '),
    },
    timeoutMs,
    allowedNetworks: null,
    grantedNetworks: allowedNetworks,
  })
}

function signature(secret: string, id: string, timestamp: number, body: string): string {
  const key = parseWebhookSecret(secret)
  if (key === null) throw new Error('a stored webhook secret is none')
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
}
