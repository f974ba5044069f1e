import { LEVEL_MEANINGS, LEVELS, type Level } from '@curfew/domain'
import { type Static, type TSchema, Type } from 'typebox'
import { ClientIdText, Uuid } from './logout-event.ts'

/** Every scope that a credential may have (`admin` implies all). */
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
  'admin',
] as const
export type Scope = (typeof SCOPES)[number]

export const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()])
export const Time = Type.String({ description: 'RFC 3339, UTC.' })
export const Text = Type.String()
export const Count = Type.Integer({ minimum: 0 })

/** What an acknowledgement asserts, and null without one. A union of literals would take twice as long to write. */
const levelOf = (what: string) =>
  Type.Unsafe<Level | null>({
    type: ['string', 'null'],
    enum: [...LEVELS, null],
    description: `${what} ${LEVELS.map((level) => `${level}: ${LEVEL_MEANINGS[level]}`).join(' ')}`,
  })
/** Names the way by which a relying party is told. */
export const Channel = Type.String({ description: 'Kind of the channel.' })

/** Whether a thing is as it must be, in words. */
export const Finding = Type.Object({
  ok: Type.Boolean(),
  what: Type.String({ description: 'How it stands.' }),
  fix: Type.Union([Text, Type.Null()], { description: 'What would mend it; null where nothing is wrong.' }),
})

/** One page of a list. */
export const page = <Item extends TSchema>(item: Item) =>
  Type.Object({ items: Type.Array(item), next_cursor: nullable(Text) })

/** What an accepted event is answered with. */
export const Accepted = Type.Object({
  id: Type.String({ description: 'As the issuer gave it, or ours where it gave none.' }),
  status: Type.Literal('accepted'),
  links: Type.Object({ self: Text, receipt: Text }),
})
export type Accepted = Static<typeof Accepted>

/** An error body (RFC 9457). */
export const Problem = Type.Object({
  type: Text,
  title: Text,
  status: Type.Integer(),
  detail: Type.Optional(Text),
  instance: Type.Optional(Text),
  errors: Type.Optional(Type.Array(Type.Object({ pointer: Text, detail: Text }))),
  trace_id: Type.Optional(Text),
})
export type Problem = Static<typeof Problem>

/** One element's fate where an array was posted and not all of it was accepted. */
export const Rejected = Type.Object({
  id: Type.Optional(Text),
  status: Type.Literal('rejected'),
  problem: Problem,
})
export const AcceptedOrRejected = Type.Union([Accepted, Rejected])
export type AcceptedOrRejected = Static<typeof AcceptedOrRejected>

const ErasedAt = Type.Union([Time, Type.Null()], {
  description: 'When whom it was about was erased; null: it was not.',
})

export const AttemptCount = Type.Integer({
  minimum: 0,
  description:
    'POSTs to the relying party. 0: nothing was sent, for example because the endpoint is disabled.',
})

/** One delivery, without its attempts. */
export const Delivery = Type.Object({
  id: Text,
  event_id: Text,
  issuer: Text,
  client_id: Text,
  client_name: nullable(Text),
  channel: Channel,
  fallback_for: Type.Union([Text, Type.Null()], {
    description: 'Kind of the channel that it stands in for; null: the channel is required.',
  }),
  endpoint: Type.String({ description: 'Which endpoint of the relying party.' }),
  sid: nullable(Text),
  names: Type.Union([Type.Literal('session'), Type.Literal('subject')], {
    description:
      'session: its token ends that one. subject: the relying party is told of no session, or takes sub only, and ends every session of the user that it has when it is told, also one that began after the event.',
  }),
  lane: Text,
  state: Text,
  level: levelOf('What the acknowledgement asserts; null without one.'),
  counts: Type.String({ description: 'The weakest acknowledgement that keeps the promise (SLA).' }),
  attempt_count: AttemptCount,
  dead_letter_reason: nullable(Text),
  superseded_by: nullable(Uuid),
  generation: Type.Integer(),
  planned_at: Time,
  due_at: nullable(Time),
  settled_at: nullable(Time),
  elapsed_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: 'From acceptance (202) to settlement.',
  }),
  erased_at: ErasedAt,
  links: Type.Object({ self: Text, event: Text }),
})
export type Delivery = Static<typeof Delivery>

/** One POST to the RP, and what it said; or a round that could send nothing. */
export const Attempt = Type.Object({
  number: Type.Integer({ minimum: 1, description: 'Rounds that could send nothing are numbered too.' }),
  started_at: Time,
  duration_ms: Count,
  outcome: Text,
  status: Type.Union([Type.Integer(), Type.Null()], {
    description: 'HTTP status; null when no answer came.',
  }),
  error_class: nullable(Text),
  error: nullable(Text),
  error_description: nullable(Text),
  jti: nullable(Text),
  note: Type.Union([Text, Type.Null()], {
    description: 'A machine word for what else an acknowledgement said, such as unknown_user.',
  }),
})
export type Attempt = Static<typeof Attempt>

export const DeliveryWithAttempts = Type.Object({ ...Delivery.properties, attempts: Type.Array(Attempt) })
export type DeliveryWithAttempts = Static<typeof DeliveryWithAttempts>

/** How far a logout of everyone is. */
export const IssuerLogoutProgress = Type.Object({
  state: Type.Union(
    [Type.Literal('running'), Type.Literal('done'), Type.Literal('cancelled'), Type.Literal('failed')],
    {
      description:
        'done: for every subject that has a session a logout is made. Its deliveries may still be under way. failed: it ended because of a fault before every subject had one.',
    },
  ),
  ended_at: nullable(Time),
  total: Type.Union([Count, Type.Null()], {
    description: 'Subjects with a session, as counted when the job began; null until then.',
  }),
  done: Type.Integer({
    minimum: 0,
    description: 'Subjects whose logout is planned, also of sessions that were posted late.',
  }),
})

/** A logout event as the ledger has it, with how each delivery stands. */
export const LogoutEventStatus = Type.Object({
  id: Text,
  iss: Text,
  sub: nullable(Text),
  email: Type.Union([Text, Type.Null()], {
    description: 'Email address of the subject, as the event or its latest session has it.',
  }),
  sid: nullable(Text),
  scope: Text,
  device: nullable(Text),
  reason: nullable(Text),
  initiator: nullable(Text),
  lane: Text,
  occurred_at: Time,
  accepted_at: Time,
  planned_at: Time,
  plan_basis: Type.Union(
    [
      Type.Literal('sessions'),
      Type.Literal('registered'),
      Type.Literal('index_away'),
      Type.Literal('unknown_issuer'),
    ],
    {
      description:
        'sessions: planned by what the session index knows. registered: it knew of no session, so every relying party of the issuer was considered. index_away: likewise, for the index did not answer. unknown_issuer: no issuer has this iss.',
    },
  ),
  parent_id: Type.Union([Text, Type.Null()], {
    description: 'The logout of everyone that it is a part of.',
  }),
  issuer_logout: Type.Union(
    [Type.Object({ ...IssuerLogoutProgress.properties, links: Type.Object({ self: Text }) }), Type.Null()],
    { description: 'With scope issuer: how far it is. Nobody is owed a delivery of the event itself.' },
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

/** What a person is shown of a logout. */
export const EventSummary = Type.Object({
  event_id: Text,
  status: Type.Union([Type.Literal('complete'), Type.Literal('in_progress'), Type.Literal('incomplete')], {
    description:
      'complete: signed out of all. in_progress: the rest goes on by itself, as far as it was not given up on. incomplete: what is left is left to the person.',
  }),
  signed_out: Count,
  total: Count,
  text: Type.String({ description: 'Plain English, for the person who logged out. No markup.' }),
  applications: Type.Array(
    Type.Object({
      client_id: Text,
      name: Type.String({ description: 'The client_name, else the client_id.' }),
      state: Type.Union(
        [Type.Literal('signed_out'), Type.Literal('ending'), Type.Literal('not_signed_out')],
        {
          description:
            'ending: it is tried again, its session ends by itself, or, where level is not null, the application has confirmed that it is to sign out, and says no more. not_signed_out: it was given up on, or, with level unconfirmable, there is no way to know.',
        },
      ),
      level: levelOf(
        'The weakest acknowledgement that counts, of the required channels and of the fallbacks that stand in for them. Null until everything that counts is acknowledged, and where the session was over anyway.',
      ),
      within_s: Type.Union([Type.Integer(), Type.Null()], {
        description:
          'Seconds from now, a round number: within these it is tried next, or, where by_itself, its session ends. Null where neither can be said.',
      }),
      by_itself: Type.Boolean({
        description:
          'Its session ends by itself, sooner than it is tried again or though it was given up on.',
      }),
      text: Type.String({ description: 'One sentence.' }),
    }),
  ),
  links: Type.Object({ self: Text, event: Text }),
})
export type EventSummary = Static<typeof EventSummary>

export const Jwks = Type.Object({
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
      description: 'As its issuer gave it. Where several issuers use it, issuer says whose.',
    }),
    state: Type.Optional(
      Type.Union([
        Type.Literal('pending'),
        Type.Literal('in_flight'),
        Type.Literal('acknowledged'),
        Type.Literal('superseded'),
        Type.Literal('lapsed'),
        Type.Literal('dead_lettered'),
      ]),
    ),
    since: Type.Optional(
      Type.String({ maxLength: 40, description: 'Planned at or after this time (RFC 3339).' }),
    ),
    until: Type.Optional(Type.String({ maxLength: 40, description: 'Planned before this time (RFC 3339).' })),
  },
  { additionalProperties: false },
)
