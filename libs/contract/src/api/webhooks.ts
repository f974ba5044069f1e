import type { NotificationRecord } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { nullable, PageQuery, Text, Time } from './common.ts'
import { model } from './model.ts'

// Schemas of webhooks and of the notifications to them.

/** All types of notifications. */
export const NOTIFICATION_TYPES = [
  'relying_party.breaker_opened',
  'relying_party.breaker_closed',
  'delivery.dead_lettered',
  'key.expiring',
  'sla.budget_burning',
  'session.orphaned',
  'session.overlong',
  'record.quarantined',
  'record.removed',
  'session.over_quota',
  'audit.failed',
] as const

const type = Type.Unsafe<(typeof NOTIFICATION_TYPES)[number]>(
  Type.Union(NOTIFICATION_TYPES.map((name) => Type.Literal(name))),
)
const types = Type.Array(type, {
  minItems: 1,
  maxItems: 32,
  description:
    'The types of notifications that the webhook receives. Default: every type, also those of later releases.',
})
const secret = (use: string) =>
  Type.String({
    pattern: '^whsec_',
    maxLength: 128,
    writeOnly: true,
    description: `whsec_ and 24 to 64 bytes in base64 (Standard Webhooks). Default: a new random secret. ${use}`,
  })

export const WebhookInput = Type.Object(
  {
    url: Type.String({ minLength: 1, maxLength: 2_048 }),
    types: Type.Optional(types),
    issuer: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description:
          'Short name of an issuer. The webhook then receives only notifications about this issuer. Default: all issuers.',
      }),
    ),
    enabled: Type.Optional(Type.Boolean({ description: 'Default true.' })),
    allowed_networks: Type.Optional(
      Type.Array(Type.String({ maxLength: 64 }), {
        maxItems: 32,
        description:
          "CIDRs of the private addresses that are allowed for the webhook, in addition to the deployment's.",
      }),
    ),
    secret: Type.Optional(secret('Only allowed for a new webhook.')),
  },
  { additionalProperties: false, title: 'WebhookInput' },
)
export type WebhookInput = Static<typeof WebhookInput>

export const Webhook = model('Webhook', {
  name: Text,
  url: Text,
  types: nullable(Type.Array(Text)),
  issuer: nullable(Text),
  enabled: Type.Boolean(),
  disabled_reason: Type.Union([Text, Type.Null()], {
    description:
      'Why Curfew sends nothing to the webhook although it is enabled. Put the webhook again to resume.',
  }),
  allowed_networks: Type.Array(Text),
  previous_secret_until: Type.Union([Time, Type.Null()], {
    description: 'Until this time the previous secret signs too.',
  }),
  secret: Type.Optional(Type.String({ description: 'Only in the answer to the request that made it.' })),
  created_at: Time,
  updated_at: Time,
  links: Type.Object({ self: Text, deliveries: Text }),
})
export type Webhook = Static<typeof Webhook>

export const RotateSecretInput = Type.Object(
  { secret: Type.Optional(secret('The previous secret signs too for 24 hours.')) },
  { additionalProperties: false, title: 'RotateSecretInput' },
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

/** The delivery of a notification to one webhook. */
export const WebhookDelivery = model('WebhookDelivery', {
  id: Type.String({ description: '`webhook-id`: the same in every attempt.' }),
  type: Text,
  state: Type.Union([Type.Literal('pending'), Type.Literal('delivered'), Type.Literal('failed')]),
  attempts: Type.Integer({ minimum: 0 }),
  created_at: Time,
  attempted_at: nullable(Time),
  due_at: nullable(Time),
  settled_at: nullable(Time),
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status of the last attempt; null if there was no answer.',
  }),
  error: nullable(Text),
})
export type WebhookDelivery = Static<typeof WebhookDelivery>

/** The answer to the request for a test notification. */
export const WebhookTest = model('WebhookTest', { id: Text, links: Type.Object({ deliveries: Text }) })
export type WebhookTest = Static<typeof WebhookTest>

/** The body of a notification, for webhooks (Standard Webhooks, "Payload structure") and for Kafka. */
export function notificationBody({
  type,
  occurredAt,
  data,
}: Pick<NotificationRecord, 'type' | 'occurredAt' | 'data'>): string {
  return JSON.stringify({ type, timestamp: occurredAt.toISOString(), data })
}
