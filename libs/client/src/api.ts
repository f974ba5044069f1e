import { type Static, type TSchema, Type } from 'typebox'
import { ClientIdText, IssuerUrl, Uuid } from './logout-event.ts'

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

const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()])
const Time = Type.String({ description: 'RFC 3339, UTC.' })
const Text = Type.String()
const Count = Type.Integer({ minimum: 0 })

/** One page of a list. */
export const page = <Item extends TSchema>(item: Item) =>
  Type.Object({ items: Type.Array(item), next_cursor: nullable(Text) })

/** What an accepted event is answered with. */
export const Accepted = Type.Object({
  id: Text,
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

/** One delivery, without its attempts. */
export const Delivery = Type.Object({
  id: Text,
  event_id: Text,
  issuer: Text,
  client_id: Text,
  client_name: nullable(Text),
  sid: nullable(Text),
  lane: Text,
  state: Text,
  level: nullable(Text),
  attempt_count: Count,
  dead_letter_reason: nullable(Text),
  superseded_by: nullable(Uuid),
  generation: Type.Integer(),
  planned_at: Time,
  due_at: nullable(Time),
  settled_at: nullable(Time),
  elapsed_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: 'From acceptance (202) to settlement.',
  }),
  links: Type.Object({ self: Text, event: Text }),
})
export type Delivery = Static<typeof Delivery>

/** One POST to the RP, and what it said. */
export const Attempt = Type.Object({
  number: Type.Integer({ minimum: 1 }),
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
})
export type Attempt = Static<typeof Attempt>

export const DeliveryWithAttempts = Type.Object({ ...Delivery.properties, attempts: Type.Array(Attempt) })
export type DeliveryWithAttempts = Static<typeof DeliveryWithAttempts>

/** A logout event as the ledger has it, with how each delivery stands. */
export const LogoutEventStatus = Type.Object({
  id: Text,
  iss: Text,
  sub: nullable(Text),
  sid: nullable(Text),
  scope: Text,
  reason: nullable(Text),
  initiator: nullable(Text),
  lane: Text,
  occurred_at: Time,
  accepted_at: Time,
  planned_at: Time,
  plan_basis: Type.Union([Type.Literal('registered'), Type.Literal('unknown_issuer')], {
    description:
      'registered: every relying party of the issuer was considered. unknown_issuer: no issuer has this iss.',
  }),
  status: Type.Union([Type.Literal('in_progress'), Type.Literal('settled')]),
  acknowledged: Count,
  total: Count,
  settled_at: nullable(Time),
  elapsed_ms: nullable(Type.Integer()),
  deliveries: Type.Array(Delivery),
  links: Type.Object({ self: Text, receipt: Text }),
})
export type LogoutEventStatus = Static<typeof LogoutEventStatus>

/** TLS of a relying party's own, in PEM. */
const ClientTls = Type.Object(
  {
    ca: Type.Optional(
      Type.String({ maxLength: 65_536, description: 'Certificates that alone vouch for the endpoint.' }),
    ),
    client_certificate: Type.Optional(
      Type.String({
        maxLength: 65_536,
        description:
          'What the endpoint is shown when it asks who calls (mTLS): a chain, the own certificate first.',
      }),
    ),
    client_key: Type.Optional(
      Type.String({
        maxLength: 16_384,
        writeOnly: true,
        description:
          'The private key of client_certificate. Stored encrypted, never returned; left out, the one that is stored stays.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** Our own settings of a relying party, beside its OIDC metadata. What is absent comes from its issuer's defaults. */
export const RelyingPartySettings = Type.Object(
  {
    subject_claims: Type.Optional(
      Type.Union([Type.Literal('sid'), Type.Literal('sub'), Type.Literal('both')], {
        description:
          'What a token for one session carries. Default both; some RPs read both as "every session".',
      }),
    ),
    timeout_ms: Type.Optional(Type.Integer({ minimum: 100, maximum: 30_000, description: 'Default 10000.' })),
    concurrency: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 256,
        description: 'POSTs at once, from all workers together. Default 16 from each.',
      }),
    ),
    rate_per_second: Type.Optional(
      Type.Number({
        minimum: 0.01,
        maximum: 10_000,
        description: 'POSTs started in a second, by all workers together. Default no limit.',
      }),
    ),
    retry_schedule_ms: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1_000, maximum: 86_400_000 }), {
        maxItems: 32,
        description:
          'Delays after each failed attempt. Default 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 3 h, 6 h, 12 h.',
      }),
    ),
    allowed_networks: Type.Optional(
      Type.Array(Type.String({ maxLength: 64 }), {
        maxItems: 32,
        description: 'CIDRs of private addresses that this RP may live at.',
      }),
    ),
    tls: Type.Optional(ClientTls),
    enabled: Type.Optional(
      Type.Boolean({ description: 'Default true. What is owed while disabled is dead-lettered.' }),
    ),
  },
  { additionalProperties: false },
)
export type RelyingPartySettings = Static<typeof RelyingPartySettings>

/** Settings that an issuer's relying parties have where they do not say otherwise. TLS is each one's own. */
const IssuerDefaults = Type.Omit(RelyingPartySettings, ['tls'], { additionalProperties: false })

export const IssuerInput = Type.Object(
  {
    iss: IssuerUrl,
    sla: Type.Optional(
      Type.Object(
        {
          within_ms: Type.Integer({ minimum: 1, maximum: 86_400_000 }),
          objective: Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1 }),
        },
        { additionalProperties: false },
      ),
    ),
    defaults: Type.Optional(IssuerDefaults),
  },
  { additionalProperties: false, title: 'Issuer' },
)
export type IssuerInput = Static<typeof IssuerInput>

export const Issuer = Type.Object({
  name: Text,
  iss: Text,
  sla: Type.Object({ within_ms: Type.Integer(), objective: Type.Number() }),
  defaults: IssuerDefaults,
  created_at: Time,
  updated_at: Time,
  links: Type.Object({ self: Text, jwks: Text, relying_parties: Text }),
})
export type Issuer = Static<typeof Issuer>

/** A relying party's OIDC client metadata as it stands, plus our settings. Unknown metadata is kept and returned. */
export const RelyingPartyInput = Type.Object(
  {
    client_id: Type.Optional(ClientIdText),
    client_name: Type.Optional(Type.String({ maxLength: 255 })),
    backchannel_logout_uri: Type.Optional(Type.String({ minLength: 1, maxLength: 2_048 })),
    backchannel_logout_session_required: Type.Optional(Type.Boolean()),
    id_token_signed_response_alg: Type.Optional(Type.String({ maxLength: 32 })),
    id_token_encrypted_response_alg: Type.Optional(Type.String({ maxLength: 64 })),
    id_token_encrypted_response_enc: Type.Optional(Type.String({ maxLength: 64 })),
    curfew: Type.Optional(RelyingPartySettings),
  },
  { additionalProperties: true, title: 'RelyingParty' },
)
export type RelyingPartyInput = Static<typeof RelyingPartyInput>

export const RelyingParty = Type.Object(
  {
    client_id: Text,
    issuer: Text,
    curfew: RelyingPartySettings,
    status: Type.Object({
      enabled: Type.Boolean(),
      disabled_reason: nullable(Text),
      created_at: Time,
      updated_at: Time,
    }),
    links: Type.Object({ self: Text, deliveries: Text }),
  },
  { additionalProperties: true },
)
export type RelyingParty = Static<typeof RelyingParty>

export const Jwks = Type.Object({
  keys: Type.Array(Type.Object({ kid: Text }, { additionalProperties: true })),
})
export type Jwks = Static<typeof Jwks>

export const PageQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 500, default: 50 }),
  cursor: Type.Optional(Type.String({ maxLength: 512 })),
})

export const DeliveriesQuery = Type.Object(
  {
    ...PageQuery.properties,
    issuer: Type.Optional(Type.String({ maxLength: 63 })),
    client_id: Type.Optional(ClientIdText),
    event_id: Type.Optional(Uuid),
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
