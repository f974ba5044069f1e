import { DEAD_LETTER_REASONS } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Attempt, AttemptCount, Channel, Count, nullable, PageQuery, Text, Time } from './common.ts'
import { ClientIdText, Uuid } from './logout-event.ts'

// Dead letters, their replay, and the audit log, as they cross the API.

const IDS_MAX = 1_000

const issuer = Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' })
const reason = Type.Union(
  DEAD_LETTER_REASONS.map((each) => Type.Literal(each)),
  { description: 'Why it was given up on.' },
)

/** Selects dead letters. A member that is left out does not narrow. */
const filter = {
  issuer: Type.Optional(issuer),
  client_id: Type.Optional(ClientIdText),
  channel: Type.Optional(Type.String({ maxLength: 63, description: 'Kind of the channel.' })),
  reason: Type.Optional(reason),
  from: Type.Optional(
    Type.String({ maxLength: 40, description: 'Dead-lettered at or after this time (RFC 3339).' }),
  ),
  to: Type.Optional(
    Type.String({ maxLength: 40, description: 'Dead-lettered before this time (RFC 3339).' }),
  ),
}

export const DeadLettersQuery = Type.Object(
  { ...PageQuery.properties, ...filter },
  { additionalProperties: false },
)

/** A delivery that was given up on, in words that somebody can act on. */
export const DeadLetter = Type.Object({
  id: Text,
  event_id: Text,
  issuer: Text,
  client_id: Text,
  client_name: nullable(Text),
  channel: Channel,
  endpoint: Type.String({ description: 'Which endpoint of the relying party.' }),
  sid: nullable(Text),
  lane: Text,
  reason: Text,
  what: Type.String({ description: 'What went wrong.' }),
  fix: Type.String({ description: 'What would mend it.' }),
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status of the last attempt; null when no answer came.',
  }),
  error: nullable(Text),
  error_description: Type.Union([Text, Type.Null()], { description: "The relying party's own words." }),
  attempt_count: AttemptCount,
  generation: Type.Integer({ minimum: 0, description: 'How often it has been replayed.' }),
  replay_id: Type.Union([Text, Type.Null()], { description: 'The job that replayed it last.' }),
  planned_at: Time,
  dead_lettered_at: Time,
  session_ends_at: nullable(Time),
  lapsed: Type.Boolean({ description: 'The session is over by itself: nothing is left to log out of.' }),
  links: Type.Object({ self: Text, delivery: Text, event: Text }),
})
export type DeadLetter = Static<typeof DeadLetter>

export const DeadLetterWithAttempts = Type.Object({ ...DeadLetter.properties, attempts: Type.Array(Attempt) })
export type DeadLetterWithAttempts = Static<typeof DeadLetterWithAttempts>

const DeadLetterFilterInput = Type.Object(
  {
    ...filter,
    ids: Type.Optional(Type.Array(Uuid, { minItems: 1, maxItems: IDS_MAX, uniqueItems: true })),
  },
  { additionalProperties: false, description: 'What is left out does not narrow; empty, it is all of them.' },
)
export type DeadLetterFilterInput = Static<typeof DeadLetterFilterInput>

export const ReplayInput = Type.Object(
  {
    filter: DeadLetterFilterInput,
    include_lapsed: Type.Optional(
      Type.Boolean({ description: 'Default false: what is of a session that is over is left alone.' }),
    ),
    dry_run: Type.Optional(
      Type.Boolean({ description: 'Default false. True: only say what it would touch.' }),
    ),
  },
  { additionalProperties: false, title: 'Replay' },
)
export type ReplayInput = Static<typeof ReplayInput>

/** What a replay would touch. */
export const ReplayPreview = Type.Object({
  dry_run: Type.Literal(true),
  total: Type.Integer({ minimum: 0, description: 'How many would be replayed.' }),
  lapsed: Type.Integer({
    minimum: 0,
    description: 'How many match and are of a session that is over; in total only with include_lapsed.',
  }),
  oldest: nullable(Time),
  newest: nullable(Time),
  groups: Type.Array(
    Type.Object({
      issuer: Text,
      client_id: Text,
      client_name: nullable(Text),
      reason: Text,
      count: Type.Integer({ minimum: 0, description: 'How many match, lapsed or not.' }),
      lapsed: Count,
      oldest: Time,
      newest: Time,
    }),
    { description: 'By relying party and reason, the most first; 1,000 at most.' },
  ),
  groups_left_out: Count,
})
export type ReplayPreview = Static<typeof ReplayPreview>

/** A replay and how it stands. */
export const Replay = Type.Object({
  id: Text,
  state: Type.Union(
    [Type.Literal('running'), Type.Literal('done'), Type.Literal('cancelled'), Type.Literal('failed')],
    {
      description:
        'done: everything has been put back. Of that, waiting says how much is still to be settled. failed: it ended because of a fault, see failure; what it has not put back are dead letters still.',
    },
  ),
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null unless it did.' }),
  filter: Type.Object({
    ...DeadLetterFilterInput.properties,
    client_ids: Type.Optional(
      Type.Array(Text, { description: 'The clients that the credential which asked is bound to.' }),
    ),
  }),
  include_lapsed: Type.Boolean(),
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  ended_at: nullable(Time),
  total: Type.Integer({ minimum: 0, description: 'How many matched when it was asked for.' }),
  done: Type.Integer({ minimum: 0, description: 'How many have been put back.' }),
  refused: Type.Integer({
    minimum: 0,
    description: 'How many the ledger refused to put back. They stay dead letters.',
  }),
  waiting: Type.Integer({ minimum: 0, description: 'Of those: not settled yet.' }),
  acknowledged: Count,
  superseded: Count,
  lapsed: Count,
  dead: Type.Integer({ minimum: 0, description: 'Dead-lettered again.' }),
  links: Type.Object({ self: Text }),
})
export type Replay = Static<typeof Replay>

/** One thing that somebody did. */
export const AuditEntry = Type.Object({
  id: Type.Integer(),
  at: Time,
  credential: Type.String({ description: 'Name of the credential that did it.' }),
  credential_id: Type.Union([Text, Type.Null()], {
    description:
      'Id of the API key that did it: another key may have its name once it is revoked. Null: no API key did.',
  }),
  action: Text,
  object: Text,
  detail: Type.Record(Text, Type.Unknown()),
})
export type AuditEntry = Static<typeof AuditEntry>
