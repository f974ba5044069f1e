import type { Confirmation as Facts } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { nullable, PageQuery, Text, Time } from './common.ts'
import { model } from './model.ts'
import { WebhookDeliveriesQuery } from './webhooks.ts'

// Confirmations: the messages to the clients that start logouts.

const State = WebhookDeliveriesQuery.properties.state

export const ConfirmationsQuery = Type.Object(
  { ...PageQuery.properties, state: State },
  { additionalProperties: false },
)

/** The confirmation of one logout. */
export const Confirmation = model('Confirmation', {
  id: Type.String({ description: '`webhook-id`: the same in every attempt.' }),
  event_id: Text,
  state: Type.Union([Type.Literal('pending'), Type.Literal('delivered'), Type.Literal('failed')]),
  complete: Type.Union([Type.Boolean(), Type.Null()], {
    description:
      'Whether the user is signed out of all applications, as the message says; null before it is written.',
  }),
  attempts: Type.Integer({ minimum: 0 }),
  created_at: Time,
  deadline_at: Time,
  attempted_at: nullable(Time),
  due_at: nullable(Time),
  settled_at: nullable(Time),
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status of the last attempt; null if there was no answer.',
  }),
  error: nullable(Text),
  links: Type.Object({ event: Text }),
})
export type Confirmation = Static<typeof Confirmation>

/** The members of a confirmation that are stored until it is sent. */
export type ConfirmationMessage = Readonly<Record<string, unknown>>

/** The data of a confirmation, without the `sid`, which the ledger stores only in the event. */
export function confirmationMessage(
  event: { readonly givenId: string; readonly iss: string },
  { complete, settledAt, applications }: Facts,
): ConfirmationMessage {
  return {
    event_id: event.givenId,
    iss: event.iss,
    complete,
    settled_at: settledAt?.toISOString() ?? null,
    applications: applications.map(({ clientId, clientName, state }) => ({
      ...{ client_id: clientId, client_name: clientName, state },
    })),
  }
}

/** The body of a confirmation (Standard Webhooks, "Payload structure"). @param sid null: the event has none, or its subject was erased. */
export function confirmationBody({
  message,
  writtenAt,
  sid,
}: {
  readonly message: ConfirmationMessage
  readonly writtenAt: Date
  readonly sid: string | null
}): string {
  const { event_id, iss, ...result } = message
  return JSON.stringify({
    type: 'logout.confirmation',
    timestamp: writtenAt.toISOString(),
    data: { event_id, iss, ...(sid !== null && { sid }), ...result },
  })
}
