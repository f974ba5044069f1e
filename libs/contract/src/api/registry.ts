import { type Static, type TSchema, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { ClientIdText, IssuerUrl } from './logout-event.ts'

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

const slaMembers = {
  within_ms: Type.Integer({
    minimum: 1,
    maximum: 86_400_000,
    description: 'A logout shall be settled so many milliseconds after it was accepted (202).',
  }),
  objective: Type.Number({
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
    description: 'The share of logouts that this is promised for.',
  }),
}

/** One more endpoint of a relying party. It is told, retried and given up on apart from the others. */
const Endpoint = Type.Object(
  {
    name: Type.String({
      pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
      description: 'Unique for this relying party. main is backchannel_logout_uri.',
    }),
    uri: Type.String({ minLength: 1, maxLength: 2_048 }),
    enabled: Type.Optional(
      Type.Boolean({ description: 'Default true. What is owed while disabled is dead-lettered.' }),
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
        description:
          'CIDRs of private addresses that this RP may live at, within those of the deployment. Default all of those. Only an unbound admin goes beyond them.',
      }),
    ),
    tls: Type.Optional(ClientTls),
    endpoints: Type.Optional(
      Type.Array(Endpoint, {
        maxItems: 32,
        description: 'Further endpoints, beside backchannel_logout_uri: one for each region or pod.',
      }),
    ),
    sla: Type.Optional(
      Type.Partial(Type.Object(slaMembers), {
        additionalProperties: false,
        description: "What of its issuer's SLA is another for it.",
      }),
    ),
    channels: Type.Optional(
      Type.Record(Type.String({ maxLength: 32 }), Type.Record(Text, Type.Unknown()), {
        description: 'What concerns one channel, by its kind.',
      }),
    ),
    enabled: Type.Optional(
      Type.Boolean({ description: 'Default true. What is owed while disabled is dead-lettered.' }),
    ),
  },
  { additionalProperties: false },
)
export type RelyingPartySettings = Static<typeof RelyingPartySettings>

/** Settings that an issuer's relying parties have where they do not say otherwise. TLS, endpoints and channels are each one's own, the SLA a member of the issuer. */
const IssuerDefaults = Type.Omit(RelyingPartySettings, ['tls', 'endpoints', 'sla', 'channels'], {
  additionalProperties: false,
})

const SessionIndexUse = Type.Union([Type.Literal('off'), Type.Literal('partial'), Type.Literal('complete')], {
  description:
    'What the sessions that were posted are good for. partial (default): who is known to hold one is told of that one, all others are told too, for they may hold one. complete: every session is posted, so only who is known to hold one is told. off: nothing.',
})

const Quotas = Type.Object({
  sessions: nullable(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Sessions that it may have in the index.',
    }),
  ),
  relying_parties: nullable(
    Type.Integer({ minimum: 0, maximum: 1_000_000, description: 'Relying parties that it may have.' }),
  ),
})

export const IssuerInput = Type.Object(
  {
    iss: IssuerUrl,
    sla: Type.Optional(
      Type.Object(
        {
          ...slaMembers,
          window_days: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 90, description: 'Of the error budget. Default 30.' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    sid_supported: Type.Optional(
      Type.Boolean({
        description:
          'Whether its sessions have a sid. Default true; where not, no relying party may require one.',
      }),
    ),
    session_index: Type.Optional(SessionIndexUse),
    quotas: Type.Optional(
      Type.Partial(Quotas, {
        additionalProperties: false,
        description:
          'What is left out stays as it is. Only an admin that is bound to nothing changes them. null: as the deployment has it.',
      }),
    ),
    defaults: Type.Optional(IssuerDefaults),
  },
  { additionalProperties: false, title: 'Issuer' },
)
export type IssuerInput = Static<typeof IssuerInput>

export const Issuer = Type.Object({
  name: Text,
  iss: Text,
  sla: Type.Object({
    within_ms: Type.Integer(),
    objective: Type.Number(),
    window_days: Type.Integer(),
  }),
  sid_supported: Type.Boolean(),
  session_index: SessionIndexUse,
  quotas: Quotas,
  defaults: IssuerDefaults,
  created_at: Time,
  updated_at: Time,
  links: Type.Object({ self: Text, jwks: Text, relying_parties: Text }),
})
export type Issuer = Static<typeof Issuer>

/** A member that may also be null, which is as if it were left out (OpenID Connect Dynamic Client Registration). */
const known = <Schema extends TSchema>(schema: Schema) => Type.Optional(nullable(schema))

/**
 * A relying party's OIDC client metadata as it stands, or its client as Keycloak, Auth0 or Okta export it, plus our settings.
 * What we have no use for is kept and returned.
 */
export const RelyingPartyInput = Type.Object(
  {
    client_id: known(ClientIdText),
    client_name: known(Type.String({ maxLength: 255 })),
    backchannel_logout_uri: known(Type.String({ minLength: 1, maxLength: 2_048 })),
    backchannel_logout_session_required: known(Type.Boolean()),
    id_token_signed_response_alg: known(Type.String({ maxLength: 32 })),
    id_token_encrypted_response_alg: known(Type.String({ maxLength: 64 })),
    curfew: Type.Optional(RelyingPartySettings),
  },
  { additionalProperties: true, title: 'RelyingParty' },
)
export type RelyingPartyInput = Static<typeof RelyingPartyInput>

/** What of a registration shall be another (RFC 7396): null takes a member away, a list is replaced. */
export const RelyingPartyPatch = Type.Record(Text, Type.Unknown(), { title: 'RelyingPartyPatch' })
export type RelyingPartyPatch = Static<typeof RelyingPartyPatch>

export const RelyingParty = Type.Object(
  {
    client_id: Text,
    issuer: Text,
    curfew: RelyingPartySettings,
    status: Type.Object({
      enabled: Type.Boolean({ description: 'Whether anything is sent to any of its endpoints.' }),
      disabled_reason: nullable(Text),
      format: Type.String({
        description: "Whose words its metadata was read in: oidc (also Ory's), keycloak, auth0 or okta.",
      }),
      client_name: nullable(Text),
      endpoints: Type.Array(
        Type.Object({
          channel: Type.String({ description: 'The kind of its channel.' }),
          name: Text,
          uri: Text,
          enabled: Type.Boolean(),
          disabled_reason: nullable(Text),
          names: Type.Union([Type.Literal('session'), Type.Literal('subject'), Type.Literal('either')], {
            description: 'What one message to it can name.',
          }),
          counts: Type.String({ description: 'The weakest acknowledgement that keeps the promise (SLA).' }),
          fallback_for: Type.Union([Text, Type.Null()], {
            description: 'The channel that it stands in for; null: each logout goes to it.',
          }),
          settings: Type.Record(Text, Type.Unknown(), {
            description:
              "What its channel does, as it takes effect: the client's metadata, its settings and its issuer's defaults.",
          }),
        }),
        { description: 'Where logouts are sent. main is the first of its channel.' },
      ),
      waiting: Type.Optional(
        Type.Integer({
          minimum: 0,
          description:
            'In the answer to a change: deliveries that wait for it (counted up to 100000). To an endpoint that is disabled or gone they die when they are due, and can be replayed.',
        }),
      ),
      created_at: Time,
      updated_at: Time,
    }),
    links: Type.Object({ self: Text, health: Text, probe: Text, deliveries: Text }),
  },
  { additionalProperties: true },
)
export type RelyingParty = Static<typeof RelyingParty>

/** What was removed, and how much waits for it yet. */
export const Removed = Type.Object({
  client_id: Text,
  issuer: Text,
  waiting: Type.Integer({
    minimum: 0,
    description:
      'Deliveries that wait for it (counted up to 100000): they die as client_removed when they are due.',
  }),
})
export type Removed = Static<typeof Removed>

/** What an import has done, or with dry_run would do. */
export const Imported = Type.Object({
  dry_run: Type.Boolean(),
  total: Count,
  created: Count,
  changed: Count,
  unchanged: Count,
})
export type Imported = Static<typeof Imported>

/** One fault of one line of an import. */
export interface ImportFault {
  readonly line: number
  readonly client_id: string | null
  readonly pointer: string
  readonly detail: string
}

/** How one endpoint has done lately. */
const EndpointHealth = Type.Object({
  channel: Text,
  name: Text,
  uri: Text,
  enabled: Type.Boolean(),
  disabled_reason: nullable(Text),
  breaker: Type.Object(
    { state: Type.Union([Type.Literal('closed'), Type.Literal('open')]), opened_at: nullable(Time) },
    { description: 'Open while a worker knows it to be down, and spares it all but a probe.' },
  ),
  waiting: Type.Integer({ minimum: 0, description: 'Deliveries that wait for it, counted up to 100000.' }),
  waiting_since: Type.Union([Time, Type.Null()], {
    description: 'Since when the oldest of them is planned.',
  }),
  settled: Type.Integer({
    minimum: 0,
    description:
      'Of its latest 1000 deliveries, how many were acknowledged or given up on. The rest is about these.',
  }),
  share_acknowledged: Type.Union([Type.Number(), Type.Null()], { description: 'From 0 to 1.' }),
  last_acknowledged_at: nullable(Time),
  elapsed_ms: Type.Union(
    [Type.Object({ p50: Type.Number(), p95: Type.Number(), p99: Type.Number() }), Type.Null()],
    { description: 'From acceptance (202) to acknowledgement, without what was replayed.' },
  ),
})

export const RelyingPartyHealth = Type.Object({
  client_id: Text,
  issuer: Text,
  client_name: nullable(Text),
  waiting: Count,
  endpoints: Type.Array(EndpointHealth),
})
export type RelyingPartyHealth = Static<typeof RelyingPartyHealth>
