import { type Static, Type } from 'typebox'
import { Count, nullable, PageQuery, Text, Time } from './common.ts'
import { model } from './model.ts'

// Schemas of quarantined records.

const lane = Type.Union([Type.Literal('interactive'), Type.Literal('bulk'), Type.Literal('sessions')], {
  description: 'Lane of the event log that the record is from.',
})
const kind = Type.Union(
  [
    Type.Literal('unreadable'),
    Type.Literal('conflict'),
    Type.Literal('refused'),
    Type.Literal('unverified'),
    Type.Literal('forged'),
  ],
  {
    description:
      'unreadable: the record is not a logout event or session change. conflict: another logout has the same id. refused: the ledger cannot store a value of the record. unverified: the keys of the issuer were unavailable, so a relayed logout token could not be verified. forged: a relayed logout token is not valid.',
  },
)
const state = Type.Union(
  [
    Type.Literal('waiting'),
    Type.Literal('requeue_requested'),
    Type.Literal('requeued'),
    Type.Literal('dismissed'),
  ],
  {
    description:
      'waiting: a person must decide. requeue_requested: the bookkeeper will append it to the event log. requeued: the event log has it again. dismissed: a person decided to ignore it.',
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

/** A record that was accepted, but could not be planned or applied. */
export const QuarantinedRecord = model('QuarantinedRecord', {
  id: Text,
  lane,
  position: Type.String({ description: 'Position of the record in the event log.' }),
  issuer: Type.Union([Text, Type.Null()], {
    description: 'Short name of the issuer; null if it is not registered or not readable.',
  }),
  iss: Type.Union([Text, Type.Null()], {
    description: 'The issuer that value, headers and key agree on; null if they name none, or disagree.',
  }),
  event_id: Type.Union([Text, Type.Null()], {
    description: 'Id of the logout event; null if it is not readable.',
  }),
  kind,
  reason: Type.String({ description: 'Why it could not be planned or applied.' }),
  fix: Type.String({ description: 'How to correct it.' }),
  state,
  value_bytes: Type.Integer({ minimum: 0, description: 'Length of the whole value.' }),
  value_sha256: Type.String({ description: 'SHA-256 of the whole value, in hexadecimal.' }),
  cut_short: Type.Boolean({
    description: 'True if only a part of the record is kept. Such a record cannot be requeued.',
  }),
  quarantined_at: Time,
  decided_by: Type.Union([Text, Type.Null()], {
    description: 'Name of the credential that requested the requeue or dismissed the record.',
  }),
  decided_at: nullable(Time),
  requeue_error: Type.Union([Text, Type.Null()], {
    description: 'Why the event log refused the record at the latest requeue.',
  }),
  links: Type.Object({ self: Text, requeue: Text }),
})
export type QuarantinedRecord = Static<typeof QuarantinedRecord>

/** A quarantined record with its content. */
export const QuarantinedContent = model('QuarantinedContent', {
  ...QuarantinedRecord.properties,
  key: Text,
  headers: Type.Record(Text, Text),
  value: Type.String({ description: 'The value as UTF-8, up to 64 KiB. Invalid bytes are replaced.' }),
  value_base64: Type.String({ description: 'The same bytes in base64.' }),
  kept_bytes: Count,
})
export type QuarantinedContent = Static<typeof QuarantinedContent>
