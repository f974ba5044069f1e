import {
  CONFIRMATION_DEADLINE_MS,
  CONFIRMATION_DEADLINE_MS_MAX,
  CONFIRMATION_DEADLINE_MS_MIN,
} from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Count, LastError, nullable, Text, Time } from './common.ts'
import { ClientIdText, IssuerUrl } from './logout-event.ts'
import { model } from './model.ts'

/** TLS settings of a relying party, in PEM. */
const ClientTls = Type.Object(
  {
    ca: Type.Optional(
      Type.String({
        maxLength: 65_536,
        description: 'CA certificates for the endpoint. They replace the default CAs.',
      }),
    ),
    client_certificate: Type.Optional(
      Type.String({
        maxLength: 65_536,
        description:
          'The client certificate that Curfew presents to the endpoint (mTLS): a chain, leaf certificate first.',
      }),
    ),
    client_key: Type.Optional(
      Type.String({
        maxLength: 16_384,
        writeOnly: true,
        description:
          'The private key of client_certificate. Stored encrypted, never returned. If absent, the stored key stays.',
      }),
    ),
  },
  { additionalProperties: false },
)

const slaMembers = {
  within_ms: Type.Integer({
    minimum: 1,
    maximum: 86_400_000,
    description: 'Time limit from acceptance (202) to settlement of a logout, in milliseconds.',
  }),
  objective: Type.Number({
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
    description: 'The share of logouts that must be settled in time, between 0 and 1.',
  }),
}

/** The members of an SLA that replace those of the issuer's. */
export const SlaOverride = Type.Partial(Type.Object(slaMembers), {
  additionalProperties: false,
  description: "Members that replace those of the issuer's SLA.",
})

/** A further endpoint of a relying party. Its deliveries, retries and dead letters are separate. */
const Endpoint = Type.Object(
  {
    name: Type.String({
      pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
      description: 'Unique within the relying party. main is backchannel_logout_uri.',
    }),
    uri: Type.String({ minLength: 1, maxLength: 2_048 }),
    enabled: Type.Optional(
      Type.Boolean({
        description: 'Default true. Deliveries that are due while it is false become dead letters.',
      }),
    ),
  },
  { additionalProperties: false },
)

const confirmationMembers = {
  confirmation_uri: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 2_048,
      description:
        'The address that gets one signed message for each logout that the client started (Standard Webhooks).',
    }),
  ),
  confirmation_deadline_ms: Type.Optional(
    Type.Integer({
      minimum: CONFIRMATION_DEADLINE_MS_MIN,
      maximum: CONFIRMATION_DEADLINE_MS_MAX,
      description: `The longest time from acceptance (202) to the confirmation, in milliseconds. Default ${CONFIRMATION_DEADLINE_MS}. The confirmation is sent earlier if the logout is settled.`,
    }),
  ),
  confirmation_secret: Type.Optional(
    Type.String({
      pattern: '^whsec_',
      maxLength: 128,
      description:
        'The secret that signs confirmations: whsec_ and 24 to 64 bytes in base64 (Standard Webhooks). Stored encrypted. Default: the stored secret, or a new random one, which only the answer to this request has. An import needs it for a new confirmation_uri.',
    }),
  ),
}

/** Curfew's settings of a relying party, beside its OIDC metadata. Absent members have the issuer's defaults. */
export const RelyingPartySettings = Type.Object(
  {
    subject_claims: Type.Optional(
      Type.Union([Type.Literal('sid'), Type.Literal('sub'), Type.Literal('both')], {
        description:
          'Claims of a token for one session. Default both. Some RPs end every session of the user for both.',
      }),
    ),
    token_type: Type.Optional(
      Type.Union([Type.Literal('logout+jwt'), Type.Literal('JWT'), Type.Literal('none')], {
        description:
          'The typ in the header of logout tokens. Default logout+jwt. none: a header without typ. Some libraries accept only JWT, or no typ. The relay forwards the tokens of an IdP unchanged.',
      }),
    ),
    already_ended_errors: Type.Optional(
      Type.Array(
        Type.String({ minLength: 1, maxLength: 255, pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$' }),
        {
          maxItems: 20,
          uniqueItems: true,
          description:
            'Values of error in a 400 by which the relying party says that the session is already over, compared character by character. Such an answer then acknowledges the logout, with the note already_ended. Default: none, so that a 400 is a refusal.',
        },
      ),
    ),
    timeout_ms: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 30_000,
        description: 'Limit for each POST, in milliseconds. Default 10000.',
      }),
    ),
    concurrency: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 256,
        description: 'Limit of concurrent POSTs, over all workers. Default: 16 for each worker.',
      }),
    ),
    rate_per_second: Type.Optional(
      Type.Number({
        minimum: 0.01,
        maximum: 10_000,
        description: 'Limit of POSTs started per second, over all workers. Default: no limit.',
      }),
    ),
    retry_schedule_ms: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1_000, maximum: 86_400_000 }), {
        maxItems: 32,
        description:
          'Delays after each failed attempt. Default 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 3 h, 6 h, 12 h. Each is at least one second, because the quick retries cover the first second and every further attempt is a claim in the ledger. Empty: no retries after the quick ones.',
      }),
    ),
    allowed_networks: Type.Optional(
      Type.Array(Type.String({ maxLength: 64 }), {
        maxItems: 32,
        description:
          'CIDRs of the private addresses that are allowed for this RP, within those of the deployment. Default: all of these. Only an unbound admin may go beyond them.',
      }),
    ),
    trace_context: Type.Optional(
      Type.Boolean({
        description:
          'Whether requests to the relying party carry a traceparent (W3C Trace Context). Its parent is the attempt. Default false.',
      }),
    ),
    tls: Type.Optional(ClientTls),
    endpoints: Type.Optional(
      Type.Array(Endpoint, {
        maxItems: 32,
        description: 'Further endpoints beside backchannel_logout_uri, such as one for each region or pod.',
      }),
    ),
    sla: Type.Optional(SlaOverride),
    channels: Type.Optional(
      Type.Record(Type.String({ maxLength: 32 }), Type.Record(Text, Type.Unknown()), {
        description: 'Settings of each channel, by the kind of the channel.',
      }),
    ),
    enabled: Type.Optional(
      Type.Boolean({
        description: 'Default true. Deliveries that are due while it is false become dead letters.',
      }),
    ),
    ...confirmationMembers,
  },
  { title: 'RelyingPartySettings', additionalProperties: false },
)
export type RelyingPartySettings = Static<typeof RelyingPartySettings>

/**
 * Defaults of an issuer for its relying parties. TLS, endpoints, channels, confirmations and the meaning of errors have no
 * defaults: they differ for each relying party. The SLA is a member of the issuer itself.
 */
const IssuerDefaults = Type.Omit(
  RelyingPartySettings,
  [
    ...(['tls', 'endpoints', 'sla', 'channels', 'already_ended_errors'] as const),
    ...(['confirmation_uri', 'confirmation_deadline_ms', 'confirmation_secret'] as const),
  ],
  { additionalProperties: false },
)

const SessionIndexUse = Type.Union([Type.Literal('off'), Type.Literal('partial'), Type.Literal('complete')], {
  description:
    'How logouts use the posted sessions. partial (default): not every session is posted. A client with known sessions is notified of these, and all other clients are notified too. complete: every session is posted. Only clients with known sessions are notified. off: posted sessions are ignored.',
})

const SubjectType = Type.Union([Type.Literal('public'), Type.Literal('pairwise')], {
  description:
    'The subject_type of clients whose metadata states none. public (default): all clients know a user by one sub. pairwise: each knows a user by a sub of its own. A pairwise client gets the sub of its own posted session, or the sid alone, and never the sub of another client.',
})

const Quotas = Type.Object({
  sessions: nullable(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Limit of sessions in the index.',
    }),
  ),
  relying_parties: nullable(
    Type.Integer({ minimum: 0, maximum: 1_000_000, description: 'Limit of relying parties.' }),
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
            Type.Integer({ minimum: 1, maximum: 90, description: 'Days of the error budget. Default 30.' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    sid_supported: Type.Optional(
      Type.Boolean({
        description:
          'Whether sessions of the issuer have a sid. Default true. If false, no relying party may require a sid.',
      }),
    ),
    session_index: Type.Optional(SessionIndexUse),
    subject_type: Type.Optional(SubjectType),
    jwks_uri: Type.Optional(
      nullable(
        Type.String({
          minLength: 1,
          maxLength: 2_048,
          description:
            "URL of the issuer's JWK Set, with which the relay verifies logout tokens. Default, also for null: the discovery document of iss names it.",
        }),
      ),
    ),
    lenient_logout_tokens: Type.Optional(
      Type.Boolean({
        description:
          'Whether the relay accepts logout tokens without exp, and with typ JWT or none, as older OpenID Providers make them. Default false.',
      }),
    ),
    widen: Type.Optional(
      Type.Boolean({
        description:
          "Whether a logout that arrives by the relay notifies the issuer's other relying parties as well. Default false.",
      }),
    ),
    max_token_ttl: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 31_536_000,
        description:
          'The longest life of an access token of the issuer, in seconds. The cutoff feed keeps an entry for that long. Default 3600.',
      }),
    ),
    widen_to_subject: Type.Optional(
      Type.Boolean({
        description:
          'Whether the logout of one session also cuts off the older access tokens of its user. For access tokens without a sid. Default false.',
      }),
    ),
    strategy: Type.Optional(
      Type.Union([Type.Literal('revoke_then_notify'), Type.Null()], {
        description:
          'revoke_then_notify: the channels that revoke tokens and sessions are used at once for every logout, also where the registration makes one a fallback, beside those that notify relying parties. Summaries say what is revoked. Default null: each channel as its registration says.',
      }),
    ),
    quotas: Type.Optional(
      Type.Partial(Quotas, {
        additionalProperties: false,
        description:
          'Limits of the issuer. An absent member stays unchanged; null sets the default of the deployment. Only an unbound admin may change them.',
      }),
    ),
    defaults: Type.Optional(IssuerDefaults),
  },
  {
    ...{ additionalProperties: false, title: 'IssuerInput' },
    examples: [{ iss: 'https://idp.example', sla: { within_ms: 5_000, objective: 0.999 } }],
  },
)
export type IssuerInput = Static<typeof IssuerInput>

export const Issuer = model('Issuer', {
  name: Text,
  iss: Text,
  sla: Type.Object({
    within_ms: Type.Integer(),
    objective: Type.Number(),
    window_days: Type.Integer(),
  }),
  sid_supported: Type.Boolean(),
  session_index: SessionIndexUse,
  subject_type: SubjectType,
  jwks_uri: nullable(Text),
  lenient_logout_tokens: Type.Boolean(),
  widen: Type.Boolean(),
  max_token_ttl: Type.Integer(),
  widen_to_subject: Type.Boolean(),
  strategy: Type.Union([Type.Literal('revoke_then_notify'), Type.Null()]),
  quotas: Quotas,
  defaults: IssuerDefaults,
  created_at: Time,
  updated_at: Time,
  links: Type.Object({
    self: Text,
    jwks: Text,
    relying_parties: Text,
    relay: Type.Union([Text, Type.Null()], {
      description:
        'Where the IdP posts the logout tokens of a client, with {client_id} for the percent-encoded client; null while CURFEW_PUBLIC_URL is not set.',
    }),
  }),
})
export type Issuer = Static<typeof Issuer>

/**
 * A relying party's OIDC client metadata, or the export of its client from Keycloak, Auth0 or Okta, with Curfew's settings.
 * Members that Curfew does not use are stored and returned.
 */
export const RelyingPartyInput = Type.Object(
  {
    client_id: Type.Optional(ClientIdText),
    client_name: Type.Optional(Type.String({ maxLength: 255 })),
    backchannel_logout_uri: Type.Optional(Type.String({ minLength: 1, maxLength: 2_048 })),
    backchannel_logout_session_required: Type.Optional(Type.Boolean()),
    id_token_signed_response_alg: Type.Optional(Type.String({ maxLength: 32 })),
    id_token_encrypted_response_alg: Type.Optional(Type.String({ maxLength: 64 })),
    curfew: Type.Optional(RelyingPartySettings),
  },
  { additionalProperties: true, title: 'RelyingPartyInput' },
)
export type RelyingPartyInput = Static<typeof RelyingPartyInput>

/** Changes of a registration (RFC 7396). Null removes a member, and a list replaces the whole old list. */
export const RelyingPartyPatch = Type.Record(Text, Type.Unknown(), { title: 'RelyingPartyPatch' })
export type RelyingPartyPatch = Static<typeof RelyingPartyPatch>

/** A fact about a client, or about several, that does not prevent a registration. */
const NOTICE = {
  code: Type.String({
    description:
      'relay_address_kept: the file has the address of the relay, so the registered endpoint stayed. relay_address_crossed: so also, but the address is of another client. relay_unreadable: the relay cannot read the logout tokens of the client. endpoint_unread: the metadata has a back-channel URL that Curfew does not use. frontchannel_only, saml_client, no_endpoint: the client is not notified. relative_to_idp: a relative URL of Keycloak without a rootUrl, which Curfew takes to be at the host of the issuer. member_unused: a member that changes what the IdP sends. member_left_out: an invalid member of a client without an endpoint. no_signing_key: the issuer has no key for the algorithm. session_required: the client requires a sid, and the logouts of the issuer name none.',
  }),
  pointer: Type.Union([Text, Type.Null()], {
    description: 'The place in the metadata of the clients, as a JSON pointer.',
  }),
  detail: Type.String({ description: 'The notice in words, with what to do.' }),
}

export const RelyingParty = Type.Object(
  {
    client_id: Text,
    issuer: Text,
    curfew: RelyingPartySettings,
    status: Type.Object({
      enabled: Type.Boolean({
        description: 'False if all endpoints are disabled, or if curfew.enabled is false.',
      }),
      disabled_reason: nullable(Text),
      format: Type.String({
        description: "The format of its metadata: oidc (also Ory's), keycloak, auth0 or okta.",
      }),
      client_name: nullable(Text),
      endpoints: Type.Array(
        Type.Object({
          channel: Type.String({ description: 'Kind of the channel.' }),
          name: Text,
          uri: Text,
          enabled: Type.Boolean(),
          disabled_reason: nullable(Text),
          names: Type.Union(
            [Type.Literal('session'), Type.Literal('subject'), Type.Literal('either'), Type.Literal('any')],
            {
              description:
                'What one message to the endpoint can name: a session, the subject, or either of them.',
            },
          ),
          counts: Type.String({ description: 'The weakest level of acknowledgement that keeps the SLA.' }),
          step: Type.Union([Type.Literal('revoke'), Type.Literal('notify')], {
            description:
              'revoke: the channel ends tokens and sessions where they are issued or checked. notify: it asks the relying party to end its session.',
          }),
          fallback_for: Type.Union([Text, Type.Null()], {
            description:
              'Kind of the channel that this one replaces when it fails; null: this channel is required itself.',
          }),
          settings: Type.Record(Text, Type.Unknown(), {
            description:
              "The effective settings of the channel, from the client's metadata, the client's settings and the issuer's defaults.",
          }),
        }),
        {
          description: 'The endpoints that logouts are sent to. main is the first endpoint of each channel.',
        },
      ),
      waiting: Type.Optional(
        Type.Integer({
          minimum: 0,
          description:
            'Only in the answer to a change: number of waiting deliveries, counted up to 100000. If their endpoint is disabled or removed, they become dead letters when they are due, and can be replayed.',
        }),
      ),
      notices: Type.Optional(
        Type.Array(Type.Object(NOTICE), {
          description: 'Only in the answer to a change: facts about the client that do not prevent it.',
        }),
      ),
      confirmation_previous_secret_until: Type.Optional(
        Type.String({
          description: 'RFC 3339, UTC. Until this time the previous secret signs confirmations too.',
        }),
      ),
      created_at: Time,
      updated_at: Time,
    }),
    links: Type.Object({
      self: Text,
      health: Text,
      probe: Text,
      deliveries: Text,
      relay: Type.Union([Text, Type.Null()], {
        description:
          'The backchannel_logout_uri to set at the IdP, so that its logout tokens come by the relay; null while CURFEW_PUBLIC_URL is not set.',
      }),
      confirmations: Type.Optional(
        Type.String({ description: 'Only if the client has a confirmation_uri.' }),
      ),
    }),
  },
  { title: 'RelyingParty', additionalProperties: true },
)
export type RelyingParty = Static<typeof RelyingParty>

/** A removed relying party, with the number of its waiting deliveries. */
export const Removed = model('Removed', {
  client_id: Text,
  issuer: Text,
  waiting: Type.Integer({
    minimum: 0,
    description:
      'Number of waiting deliveries, counted up to 100000. When they are due they become dead letters with the reason client_removed.',
  }),
})
export type Removed = Static<typeof Removed>

/** One fault of one line of an import. */
export const ImportFault = model('ImportFault', {
  line: Type.Integer({ minimum: 1 }),
  client_id: nullable(Text),
  pointer: Type.String({ description: 'The place in the line, as a JSON pointer.' }),
  detail: Text,
})
export type ImportFault = Static<typeof ImportFault>

/** The result of an import, or with dry_run the expected result. */
export const Imported = model('Imported', {
  dry_run: Type.Boolean(),
  total: Count,
  created: Count,
  changed: Count,
  unchanged: Count,
  passed_over: Type.Array(
    Type.Object({
      code: Type.String({
        description:
          'no_oauth_client: applications in the export of Okta without an OAuth client, such as SAML applications. disabled_without_endpoint and disabled_with_faults: clients that are disabled in the export of Keycloak and cannot be notified. Other disabled clients are registered. A client with client_id or curfew, which exports of Curfew have, is not passed over.',
      }),
      detail: Type.String({ description: 'The reason in words, with the faults of disabled_with_faults.' }),
      total: Type.Integer({ minimum: 1, description: 'Number of applications.' }),
      names: Type.Array(Text, { description: 'Their client ids or names, at most 1000.' }),
    }),
    { description: 'Applications that the import left out, by the reason.' },
  ),
  endpoints: Type.Object(
    { clients: Count, channels: Type.Record(Text, Count) },
    { description: 'Numbers of imported clients with an endpoint: all of them, and by channel.' },
  ),
  skipped: Type.Object(
    {
      total: Type.Integer({ minimum: 0, description: 'Number of lines.' }),
      faults: Type.Array(ImportFault, { description: 'Their faults, at most 1000.' }),
      faults_left_out: Count,
    },
    { description: 'With skip_invalid: the lines that were not imported.' },
  ),
  notices: Type.Array(
    Type.Object({
      ...NOTICE,
      total: Type.Integer({ minimum: 1, description: 'Number of clients.' }),
      client_ids: Type.Array(Text, { description: 'The clients, at most 1000.' }),
    }),
    { description: 'Facts about clients that do not prevent the import.' },
  ),
})
export type Imported = Static<typeof Imported>

/** The recent results of one endpoint. */
const EndpointHealth = Type.Object({
  channel: Text,
  name: Text,
  uri: Text,
  enabled: Type.Boolean(),
  disabled_reason: nullable(Text),
  breaker: Type.Object(
    { state: Type.Union([Type.Literal('closed'), Type.Literal('open')]), opened_at: nullable(Time) },
    {
      description:
        'Open while a worker considers the endpoint unavailable. It then sends nothing to the endpoint except probes.',
    },
  ),
  waiting: Type.Integer({ minimum: 0, description: 'Number of waiting deliveries, counted up to 100000.' }),
  waiting_since: Type.Union([Time, Type.Null()], {
    description: 'When the oldest of these was planned.',
  }),
  settled: Type.Integer({
    minimum: 0,
    description:
      'Number of acknowledged and dead-lettered deliveries among the latest 1000. The members below are about these.',
  }),
  share_acknowledged: Type.Union([Type.Number(), Type.Null()], {
    description: 'Share of acknowledged deliveries, from 0 to 1.',
  }),
  share_already_ended: Type.Union([Type.Number(), Type.Null()], {
    description:
      'Share of deliveries that were acknowledged by an error of already_ended_errors, from 0 to 1. If it is high, the endpoint may find no session at all.',
  }),
  last_acknowledged_at: nullable(Time),
  last_error: Type.Union([LastError, Type.Null()], {
    description: 'The latest failed attempt of the latest 1000 deliveries; null if none failed.',
  }),
  elapsed_ms: Type.Union(
    [Type.Object({ p50: Type.Number(), p95: Type.Number(), p99: Type.Number() }), Type.Null()],
    { description: 'Milliseconds from acceptance (202) to acknowledgement, without replayed deliveries.' },
  ),
})

export const RelyingPartyHealth = model('RelyingPartyHealth', {
  client_id: Text,
  issuer: Text,
  client_name: nullable(Text),
  waiting: Count,
  endpoints: Type.Array(EndpointHealth),
})
export type RelyingPartyHealth = Static<typeof RelyingPartyHealth>
