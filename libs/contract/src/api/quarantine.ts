import { type Static, Type } from 'typebox'
import { Count, nullable, PageQuery, Text, Time } from './common.ts'

// Quarantined records, as they cross the API.

const lane = Type.Union([Type.Literal('interactive'), Type.Literal('bulk'), Type.Literal('sessions')], {
  description: 'Lane of the event log that the record came by.',
})
const kind = Type.Union([Type.Literal('unreadable'), Type.Literal('conflict'), Type.Literal('refused')], {
  description:
    'unreadable: it is no logout event or session change. conflict: another logout has its id. refused: the ledger cannot hold what it says.',
})
const state = Type.Union(
  [
    Type.Literal('waiting'),
    Type.Literal('requeue_requested'),
    Type.Literal('requeued'),
    Type.Literal('dismissed'),
  ],
  {
    description:
      'waiting for a person; requeue_requested, until the bookkeeper has appended it to the event log; requeued; dismissed.',
  },
)

export const QuarantineQuery = Type.Object(
  {
    ...PageQuery.properties,
    issuer: Type.Optional(
      Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' }),
    ),
    lane: Type.Optional(lane),
    kind: Type.Optional(kind),
    state: Type.Optional(state),
  },
  { additionalProperties: false },
)

/** A record that was accepted and could not be planned or applied. */
export const QuarantinedRecord = Type.Object({
  id: Text,
  lane,
  position: Type.String({ description: 'Where it lay in the event log.' }),
  issuer: Type.Union([Text, Type.Null()], {
    description: 'Short name of the issuer; null where it is not registered, or none can be read.',
  }),
  iss: Type.Union([Text, Type.Null()], {
    description: 'The issuer that value, headers and key agree in; null where they name none, or disagree.',
  }),
  event_id: Type.Union([Text, Type.Null()], {
    description: 'The logout event; null where none can be read.',
  }),
  kind,
  reason: Type.String({ description: 'Why it could not be planned or applied.' }),
  fix: Type.String({ description: 'What a person can do about it.' }),
  state,
  value_bytes: Type.Integer({ minimum: 0, description: 'Length of the whole value.' }),
  value_sha256: Type.String({ description: 'SHA-256 of the whole value, in hexadecimal.' }),
  cut_short: Type.Boolean({
    description: 'Only a part of the record is kept. It cannot be requeued.',
  }),
  quarantined_at: Time,
  decided_by: Type.Union([Text, Type.Null()], {
    description: 'Name of the credential that asked for the requeue, or dismissed it.',
  }),
  decided_at: nullable(Time),
  requeue_error: Type.Union([Text, Type.Null()], {
    description: 'Why the event log refused it when it was last requeued.',
  }),
  links: Type.Object({ self: Text, requeue: Text }),
})
export type QuarantinedRecord = Static<typeof QuarantinedRecord>

/** The same with its content. */
export const QuarantinedContent = Type.Object({
  ...QuarantinedRecord.properties,
  key: Text,
  headers: Type.Record(Text, Text),
  value: Type.String({ description: 'As UTF-8; bytes that are none are replaced. Up to 64 KiB of it.' }),
  value_base64: Type.String({ description: 'The same bytes in base64.' }),
  kept_bytes: Count,
})
export type QuarantinedContent = Static<typeof QuarantinedContent>
