import type { NotificationRecord } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { nullable, PageQuery, Text, Time } from './common.ts'

// Webhooks, and what is sent to them.

/** Every type of notification that a webhook can ask for. */
export const NOTIFICATION_TYPES = [
  'relying_party.breaker_opened',
  'relying_party.breaker_closed',
  'delivery.dead_lettered',
  'key.expiring',
  'sla.budget_burning',
  'session.orphaned',
  'record.quarantined',
  'record.removed',
  'session.over_quota',
] as const

const types = Type.Array(Type.Union(NOTIFICATION_TYPES.map((type) => Type.Literal(type))), {
  minItems: 1,
  maxItems: 32,
  description: 'Which notifications it gets. Default every type, those of later releases too.',
})
const secret = (more: string) =>
  Type.String({
    pattern: '^whsec_',
    maxLength: 128,
    writeOnly: true,
    description: `whsec_ and 24 to 64 bytes in base64 (Standard Webhooks). Left out, a new one is made. ${more}`,
  })

export const WebhookInput = Type.Object(
  {
    url: Type.String({ minLength: 1, maxLength: 2_048 }),
    types: Type.Optional(types),
    issuer: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Short name of the issuer that it hears of. Default every one.',
      }),
    ),
    enabled: Type.Optional(Type.Boolean({ description: 'Default true.' })),
    allowed_networks: Type.Optional(
      Type.Array(Type.String({ maxLength: 64 }), {
        maxItems: 32,
        description: "CIDRs of private addresses that it may live at, beside the deployment's.",
      }),
    ),
    secret: Type.Optional(secret('Only where the webhook is new.')),
  },
  { additionalProperties: false, title: 'Webhook' },
)
export type WebhookInput = Static<typeof WebhookInput>

export const Webhook = Type.Object({
  name: Text,
  url: Text,
  types: nullable(Type.Array(Text)),
  issuer: nullable(Text),
  enabled: Type.Boolean(),
  disabled_reason: Type.Union([Text, Type.Null()], {
    description: 'Why nothing is sent to it although it is enabled, until it is put again.',
  }),
  allowed_networks: Type.Array(Text),
  previous_secret_until: Type.Union([Time, Type.Null()], {
    description: 'Until when the secret before the last rotation signs too.',
  }),
  secret: Type.Optional(Type.String({ description: 'Shown once, when it was made.' })),
  created_at: Time,
  updated_at: Time,
  links: Type.Object({ self: Text, deliveries: Text }),
})
export type Webhook = Static<typeof Webhook>

export const RotateSecretInput = Type.Object(
  { secret: Type.Optional(secret('The one before signs too for 24 hours.')) },
  { additionalProperties: false, title: 'RotateSecret' },
)
export type RotateSecretInput = Static<typeof RotateSecretInput>

export const WebhookDeliveriesQuery = Type.Object(
  {
    ...PageQuery.properties,
    state: Type.Optional(
      Type.Union([Type.Literal('pending'), Type.Literal('delivered'), Type.Literal('failed')]),
    ),
  },
  { additionalProperties: false },
)

/** What became of a notification at one webhook. */
export const WebhookDelivery = Type.Object({
  id: Type.String({ description: '`webhook-id`: the same in every attempt.' }),
  type: Text,
  state: Type.Union([Type.Literal('pending'), Type.Literal('delivered'), Type.Literal('failed')]),
  attempts: Type.Integer({ minimum: 0 }),
  created_at: Time,
  attempted_at: nullable(Time),
  due_at: nullable(Time),
  settled_at: nullable(Time),
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status of the last attempt; null when no answer came.',
  }),
  error: nullable(Text),
})
export type WebhookDelivery = Static<typeof WebhookDelivery>

/** That a test is on its way. */
export const WebhookTest = Type.Object({ id: Text, links: Type.Object({ deliveries: Text }) })
export type WebhookTest = Static<typeof WebhookTest>

/** A notification as webhooks get it (Standard Webhooks, "Payload structure"), and those who listen on Kafka. */
export function notificationBody({
  type,
  occurredAt,
  data,
}: Pick<NotificationRecord, 'type' | 'occurredAt' | 'data'>): string {
  return JSON.stringify({ type, timestamp: occurredAt.toISOString(), data })
}
