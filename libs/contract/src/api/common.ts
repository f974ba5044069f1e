import { LEVEL_MEANINGS, LEVELS, type Level } from '@curfew/domain'
import { type Static, type TSchema, Type } from 'typebox'
import { instantParameter } from './instant.ts'
import { ClientIdText, Uuid } from './logout-event.ts'
import { model } from './model.ts'

/** All scopes of credentials. `admin` includes the others. */
export const SCOPES = [
  'events:write',
  'sessions:write',
  'events:read',
  'clients:read',
  'clients:write',
  'deadletters:read',
  'deadletters:replay',
  'keys:write',
  'ledger:read',
  'revocations:read',
  'admin',
] as const
export type Scope = (typeof SCOPES)[number]

export const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()])
export const Time = Type.String({ description: 'RFC 3339, UTC.' })
export const Text = Type.String()
export const Count = Type.Integer({ minimum: 0 })

/** The level of an acknowledgement, or null without one. A union of literals would take twice as long to serialize. */
const levelOf = (description: string) =>
  Type.Unsafe<Level | null>({
    type: ['string', 'null'],
    enum: [...LEVELS, null],
    description: `${description} ${LEVELS.map((level) => `${level}: ${LEVEL_MEANINGS[level]}`).join(' ')}`,
  })
/** The kind of the channel that a relying party is notified by. */
export const Channel = Type.String({ description: 'Kind of the channel.' })

/** The result of one check, in words. */
export const Finding = model('Finding', {
  ok: Type.Boolean(),
  what: Type.String({ description: 'The result in words.' }),
  fix: Type.Union([Text, Type.Null()], { description: 'How to correct it; null if nothing is wrong.' }),
})

/** One page of a list. */
export const page = <Item extends TSchema>(item: Item) =>
  Type.Object({ items: Type.Array(item), next_cursor: nullable(Text) })

/** The answer to an accepted event. */
export const Accepted = model('Accepted', {
  id: Type.String({ description: 'The id that the issuer gave, or a new one if it gave none.' }),
  status: Type.Literal('accepted'),
  links: Type.Object({ self: Text, receipt: Text }),
})
export type Accepted = Static<typeof Accepted>

/** An error body (RFC 9457). */
export const Problem = Type.Object(
  {
    type: Text,
    title: Text,
    status: Type.Integer(),
    detail: Type.Optional(Text),
    instance: Type.Optional(Text),
    errors: Type.Optional(
      Type.Array(
        Type.Object({ pointer: Type.String({ description: 'JSON pointer (RFC 6901).' }), detail: Text }),
      ),
    ),
    trace_id: Type.Optional(Text),
  },
  { title: 'Problem', description: 'RFC 9457.' },
)
export type Problem = Static<typeof Problem>

/** A refused element of a posted array, if others of it were accepted. */
export const Rejected = model('Rejected', {
  id: Type.Optional(Text),
  status: Type.Literal('rejected'),
  problem: Problem,
})
export const AcceptedOrRejected = Type.Union([Accepted, Rejected])
export type AcceptedOrRejected = Static<typeof AcceptedOrRejected>

const ErasedAt = Type.Union([Time, Type.Null()], {
  description: 'When the subject was erased; null if not.',
})

export const AttemptCount = Type.Integer({
  minimum: 0,
  description:
    'Number of POSTs to the relying party. 0: nothing was sent, for example because the endpoint is disabled.',
})

/** A failed attempt. */
export const LastError = model('LastError', {
  at: Time,
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status; null if there was no answer.',
  }),
  error_class: nullable(Text),
  error: Type.Union([Text, Type.Null()], {
    description: 'The error that the relying party or the network reported. Only with the scope ledger:read.',
  }),
  error_description: nullable(Text),
})
export type LastError = Static<typeof LastError>

/** One delivery, without its attempts. */
export const Delivery = model('Delivery', {
  id: Text,
  event_id: Text,
  issuer: Text,
  client_id: Text,
  client_name: nullable(Text),
  channel: Channel,
  fallback_for: Type.Union([Text, Type.Null()], {
    description:
      'Kind of the channel that this one replaces when it fails; null: this channel is required itself.',
  }),
  endpoint: Type.String({ description: 'Name of the endpoint of the relying party.' }),
  sid: nullable(Text),
  sub: Type.Union([Text, Type.Null()], {
    description:
      "The sub by which the relying party knows the user, if the message names it instead of the event's: for example its pairwise sub. Otherwise null.",
  }),
  names: Type.Union([Type.Literal('session'), Type.Literal('subject'), Type.Literal('issuer')], {
    description:
      'issuer: everybody, as a resource server fetches it. session: the message ends the session of sid. subject: the message names only the user. The relying party then ends every session of the user, also one that began after the event.',
  }),
  lane: Text,
  state: Text,
  level: levelOf('What the acknowledgement asserts; null without an acknowledgement.'),
  evidence: Type.Array(Text, {
    description:
      'The proof behind an acknowledgement that is no answer to a request, as machine words. applied_to:SEQ: the readers of the resource server have applied the cutoff feed up to SEQ.',
  }),
  counts: Type.String({ description: 'The weakest level of acknowledgement that keeps the SLA.' }),
  attempt_count: AttemptCount,
  dead_letter_reason: nullable(Text),
  superseded_by: nullable(Uuid),
  generation: Type.Integer(),
  planned_at: Time,
  due_at: Type.Union([Time, Type.Null()], {
    description:
      'When the next attempt may start. Of an offered delivery: when it ends if the relying party has not fetched it.',
  }),
  settled_at: nullable(Time),
  elapsed_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: 'From acceptance (202) to settlement.',
  }),
  erased_at: ErasedAt,
  last_error: Type.Union([LastError, Type.Null()], {
    description:
      'The error of the last attempt. Null if the attempt was acknowledged, if there was none, or if it is not kept any more.',
  }),
  links: Type.Object({ self: Text, event: Text }),
})
export type Delivery = Static<typeof Delivery>

/** One POST to the RP and its answer, or a round in which nothing could be sent. */
export const Attempt = model('Attempt', {
  number: Type.Integer({ minimum: 1, description: 'Rounds in which nothing could be sent are counted too.' }),
  started_at: Time,
  duration_ms: Count,
  outcome: Text,
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status; null if there was no answer.',
  }),
  error_class: nullable(Text),
  error: nullable(Text),
  error_description: nullable(Text),
  location: Type.Union([Text, Type.Null()], {
    description:
      'Target of the redirect that the answer was; null if it was none. Curfew does not follow it. Values of parameters, user names and fragments are replaced by an ellipsis.',
  }),
  jti: nullable(Text),
  note: Type.Union([Text, Type.Null()], {
    description: 'A code for a detail of the acknowledgement, such as already_ended or unknown_user.',
  }),
})
export type Attempt = Static<typeof Attempt>

export const DeliveryWithAttempts = model('DeliveryWithAttempts', {
  ...Delivery.properties,
  fix: Type.Union([Text, Type.Null()], {
    description:
      'How to correct the failure of the last attempt, while the delivery is pending or in_flight; otherwise null. A dead letter has its fix at /v1/dead-letters/{id}.',
  }),
  attempts: Type.Array(Attempt),
})
export type DeliveryWithAttempts = Static<typeof DeliveryWithAttempts>

/** The progress of an issuer logout. */
export const IssuerLogoutProgress = model('IssuerLogoutProgress', {
  state: Type.Union(
    [Type.Literal('running'), Type.Literal('done'), Type.Literal('cancelled'), Type.Literal('failed')],
    {
      description:
        'done: every subject with a session has a logout. Its deliveries may still be under way. failed: a fault ended the job before every subject had a logout.',
    },
  ),
  ended_at: nullable(Time),
  total: Type.Union([Count, Type.Null()], {
    description: 'Subjects with a session, counted when the job began; null before.',
  }),
  done: Type.Integer({
    minimum: 0,
    description: 'Subjects whose logout is planned. Includes subjects whose session was posted late.',
  }),
})

/** A logout event in the ledger, with the state of each delivery. */
export const LogoutEventStatus = model('LogoutEventStatus', {
  id: Text,
  iss: Text,
  sub: nullable(Text),
  email: Type.Union([Text, Type.Null()], {
    description: 'Email address of the subject, from the event or from its latest session.',
  }),
  sid: nullable(Text),
  scope: Text,
  device: nullable(Text),
  reason: nullable(Text),
  initiator: nullable(Text),
  clients: Type.Union([Type.Array(Text), Type.Null()], {
    description:
      'The only clients that the event is about, as the IdP named them. Null: every client that may hold a session.',
  }),
  unregistered_clients: Type.Array(Text, {
    description:
      'Those of clients that were not registered when the event was planned. They are not notified.',
  }),
  relayed_for: Type.Union([Text, Type.Null()], {
    description:
      'The client that the IdP addressed its logout token to; null if the event did not come by the relay.',
  }),
  lane: Text,
  occurred_at: Time,
  accepted_at: Time,
  planned_at: Time,
  plan_basis: Type.Union(
    [
      Type.Literal('sessions'),
      Type.Literal('registered'),
      Type.Literal('index_unavailable'),
      Type.Literal('unknown_issuer'),
    ],
    {
      description:
        'sessions: planned for the sessions in the session index. registered: the index had no matching session, so every relying party of the issuer was considered. index_unavailable: the index did not answer, so every relying party was considered. unknown_issuer: no issuer has this iss.',
    },
  ),
  parent_id: Type.Union([Text, Type.Null()], {
    description: 'Id of the issuer logout that this event is a part of.',
  }),
  issuer_logout: Type.Union(
    [Type.Object({ ...IssuerLogoutProgress.properties, links: Type.Object({ self: Text }) }), Type.Null()],
    {
      description:
        'With scope issuer: its progress. The event itself has no deliveries: each subject has an event of its own.',
    },
  ),
  erased_at: ErasedAt,
  status: Type.Union([Type.Literal('in_progress'), Type.Literal('settled')]),
  acknowledged: Count,
  total: Count,
  settled_at: nullable(Time),
  elapsed_ms: nullable(Type.Integer()),
  deliveries: Type.Array(Delivery),
  links: Type.Object({ self: Text, receipt: Text }),
})
export type LogoutEventStatus = Static<typeof LogoutEventStatus>

const StepProgress = Type.Object({
  done: Type.Integer({
    minimum: 0,
    description: 'Those that acknowledged, except with unconfirmable, or whose session is over.',
  }),
  total: Count,
})

/** The summary of a logout for the person who logged out. */
export const EventSummary = model('EventSummary', {
  event_id: Text,
  status: Type.Union([Type.Literal('complete'), Type.Literal('in_progress'), Type.Literal('incomplete')], {
    description:
      'complete: all applications are signed out. in_progress: Curfew is still signing out some applications. incomplete: the person must sign out of the remaining applications.',
  }),
  signed_out: Count,
  total: Count,
  text: Type.String({ description: 'Plain English, for the person who logged out. No markup.' }),
  applications: Type.Array(
    Type.Object({
      client_id: Text,
      name: Type.String({ description: 'The client_name, or the client_id without one.' }),
      state: Type.Union(
        [Type.Literal('signed_out'), Type.Literal('ending'), Type.Literal('not_signed_out')],
        {
          description:
            'ending: Curfew tries again, or the session expires soon. If level is not null: the application has confirmed the request, but not that the session is over. not_signed_out: Curfew has given up, the application cannot be notified (not_notified), or, with level unconfirmable, it cannot confirm.',
        },
      ),
      level: levelOf(
        'The weakest acknowledgement among the required channels and the fallbacks that replace them. Null until all of these are acknowledged, and if the session was over already.',
      ),
      within_s: Type.Union([Type.Integer(), Type.Null()], {
        description:
          'Rounded number of seconds until the next attempt, or, if by_itself is true, until the session expires. Null if neither is known.',
      }),
      by_itself: Type.Boolean({
        description:
          'True if the session expires before the next attempt, or if Curfew makes none and the expiry is known.',
      }),
      not_notified: Type.Union([Type.Literal('no_endpoint'), Type.Literal('not_registered'), Type.Null()], {
        description:
          'Why Curfew does not notify the application. no_endpoint: the relying party had no endpoint when the event was planned. not_registered: no relying party had the client_id. Null: it is notified.',
      }),
      text: Type.String({ description: 'One sentence.' }),
    }),
  ),
  steps: Type.Union([Type.Object({ revoke: StepProgress, notify: StepProgress }), Type.Null()], {
    description:
      'The progress of each step of the strategy of the issuer; null if it has none. Each relying party counts once in a step, by its weakest required channel of the step.',
  }),
  initiator: Type.Union([Type.Object({ client_id: Text, name: Text }), Type.Null()], {
    description:
      'The client that started the logout, if it was not notified for that reason. It is not among applications.',
  }),
  links: Type.Object({ self: Text, event: Text }),
})
export type EventSummary = Static<typeof EventSummary>

export const Jwks = model('Jwks', {
  keys: Type.Array(Type.Object({ kid: Text }, { additionalProperties: true })),
})
export type Jwks = Static<typeof Jwks>

export const PageQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 500, default: 50 }),
  cursor: Type.Optional(Type.String({ maxLength: 4_096 })),
})

export const DeliveriesQuery = Type.Object(
  {
    ...PageQuery.properties,
    issuer: Type.Optional(Type.String({ maxLength: 63 })),
    client_id: Type.Optional(ClientIdText),
    channel: Type.Optional(Type.String({ maxLength: 63, description: 'Kind of the channel.' })),
    event_id: Type.Optional({
      ...Uuid,
      description: 'The id that the issuer gave. If several issuers use it, name one with issuer.',
    }),
    state: Type.Optional(
      Type.Union([
        Type.Literal('pending'),
        Type.Literal('in_flight'),
        Type.Literal('offered'),
        Type.Literal('acknowledged'),
        Type.Literal('superseded'),
        Type.Literal('lapsed'),
        Type.Literal('dead_lettered'),
      ]),
    ),
    since: Type.Optional(instantParameter('Planned at or after this time (RFC 3339).')),
    until: Type.Optional(instantParameter('Planned before this time (RFC 3339).')),
  },
  { additionalProperties: false },
)
