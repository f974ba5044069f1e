import { DEAD_LETTER_REASONS, type DeadLetterReason } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Attempt, AttemptCount, Channel, Count, nullable, PageQuery, Text, Time } from './common.ts'
import { instantParameter } from './instant.ts'
import { ClientIdText, Uuid } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of dead letters, replays and the audit log.

const IDS_MAX = 1_000

const issuer = Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' })
const reason = Type.Unsafe<DeadLetterReason>(
  Type.Union(
    DEAD_LETTER_REASONS.map((name) => Type.Literal(name)),
    { description: 'Why Curfew gave up.' },
  ),
)

/** Selects dead letters. An absent member does not restrict the selection. */
const filter = {
  issuer: Type.Optional(issuer),
  client_id: Type.Optional(ClientIdText),
  channel: Type.Optional(Type.String({ maxLength: 63, description: 'Kind of the channel.' })),
  reason: Type.Optional(reason),
  from: Type.Optional(instantParameter('Dead-lettered at or after this time (RFC 3339).')),
  to: Type.Optional(instantParameter('Dead-lettered before this time (RFC 3339).')),
}

export const DeadLettersQuery = Type.Object(
  { ...PageQuery.properties, ...filter },
  { additionalProperties: false },
)

/** A delivery that Curfew has given up on, with the reason and the remedy in words. */
export const DeadLetter = model('DeadLetter', {
  id: Text,
  event_id: Text,
  issuer: Text,
  client_id: Text,
  client_name: nullable(Text),
  channel: Channel,
  endpoint: Type.String({ description: 'Name of the endpoint of the relying party.' }),
  sid: nullable(Text),
  lane: Text,
  reason: Text,
  what: Type.String({ description: 'The fault, in words.' }),
  fix: Type.String({ description: 'How to correct it.' }),
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status of the last attempt; null if there was no answer.',
  }),
  error: nullable(Text),
  error_description: Type.Union([Text, Type.Null()], {
    description: 'Text from the answer of the relying party.',
  }),
  location: Type.Union([Text, Type.Null()], {
    description: 'Target of the redirect that the last answer was; null if it was none.',
  }),
  attempt_count: AttemptCount,
  generation: Type.Integer({
    minimum: 0,
    description: 'Number of replays; a channel that is registered again counts as one.',
  }),
  replay_id: Type.Union([Text, Type.Null()], { description: 'Id of the latest replay of this dead letter.' }),
  planned_at: Time,
  dead_lettered_at: Time,
  session_ends_at: nullable(Time),
  lapsed: Type.Boolean({
    description: 'True if the session has expired, so that a replay is not necessary.',
  }),
  links: Type.Object({ self: Text, delivery: Text, event: Text }),
})
export type DeadLetter = Static<typeof DeadLetter>

export const DeadLetterWithAttempts = model('DeadLetterWithAttempts', {
  ...DeadLetter.properties,
  attempts: Type.Array(Attempt),
})
export type DeadLetterWithAttempts = Static<typeof DeadLetterWithAttempts>

export const DeadLetterFilterInput = Type.Object(
  {
    ...filter,
    ids: Type.Optional(Type.Array(Uuid, { minItems: 1, maxItems: IDS_MAX, uniqueItems: true })),
  },
  {
    additionalProperties: false,
    description:
      'An absent member does not restrict the selection. An empty filter selects all dead letters.',
  },
)
export type DeadLetterFilterInput = Static<typeof DeadLetterFilterInput>

export const ReplayInput = Type.Object(
  {
    filter: DeadLetterFilterInput,
    include_lapsed: Type.Optional(
      Type.Boolean({
        description: 'Default false. True: also replay dead letters whose session has expired.',
      }),
    ),
    dry_run: Type.Optional(
      Type.Boolean({ description: 'Default false. True: only report what a replay would include.' }),
    ),
  },
  { additionalProperties: false, title: 'ReplayInput' },
)
export type ReplayInput = Static<typeof ReplayInput>

/** The result of a dry run: the dead letters that a replay would include. */
export const ReplayPreview = model('ReplayPreview', {
  dry_run: Type.Literal(true),
  total: Type.Integer({ minimum: 0, description: 'Number of dead letters that would be replayed.' }),
  lapsed: Type.Integer({
    minimum: 0,
    description:
      'Number of matching dead letters whose session has expired. total includes them only with include_lapsed.',
  }),
  oldest: nullable(Time),
  newest: nullable(Time),
  groups: Type.Array(
    Type.Object({
      issuer: Text,
      client_id: Text,
      client_name: nullable(Text),
      reason: Text,
      count: Type.Integer({ minimum: 0, description: 'Number of matching dead letters, lapsed or not.' }),
      lapsed: Count,
      oldest: Time,
      newest: Time,
    }),
    { description: 'By relying party and reason, the largest group first, at most 1,000.' },
  ),
  groups_left_out: Count,
})
export type ReplayPreview = Static<typeof ReplayPreview>

/** A replay and its progress. */
export const Replay = model('Replay', {
  id: Text,
  state: Type.Union(
    [Type.Literal('running'), Type.Literal('done'), Type.Literal('cancelled'), Type.Literal('failed')],
    {
      description:
        'done: all selected dead letters are pending again; waiting counts those that are not settled yet. failed: a fault ended the replay, see failure. The remaining dead letters are unchanged.',
    },
  ),
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null otherwise.' }),
  filter: Type.Object({
    ...DeadLetterFilterInput.properties,
    client_ids: Type.Optional(
      Type.Array(Text, { description: 'The clients that the credential of the request is bound to.' }),
    ),
  }),
  include_lapsed: Type.Boolean(),
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  ended_at: nullable(Time),
  total: Type.Integer({
    minimum: 0,
    description: 'Number of matching dead letters at the time of the request.',
  }),
  done: Type.Integer({
    minimum: 0,
    description: 'Number of dead letters that the replay has made pending again.',
  }),
  refused: Type.Integer({
    minimum: 0,
    description: 'Number of dead letters that the ledger refused to replay. They remain dead letters.',
  }),
  waiting: Type.Integer({
    minimum: 0,
    description: 'Number of replayed deliveries that are not settled yet.',
  }),
  acknowledged: Count,
  superseded: Count,
  lapsed: Count,
  dead: Type.Integer({ minimum: 0, description: 'Number of deliveries that became dead letters again.' }),
  links: Type.Object({ self: Text }),
})
export type Replay = Static<typeof Replay>

/** One recorded action of an operator. */
export const AuditEntry = model('AuditEntry', {
  id: Type.Integer(),
  at: Time,
  credential: Type.String({ description: 'Name of the credential.' }),
  credential_id: Type.Union([Text, Type.Null()], {
    description:
      'Id of the API key. It distinguishes keys of the same name: a revoked key may have a successor. Null: the credential is not an API key.',
  }),
  action: Text,
  object: Text,
  detail: Type.Record(Text, Type.Unknown()),
})
export type AuditEntry = Static<typeof AuditEntry>
