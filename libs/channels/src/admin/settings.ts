import type { Binding } from '@curfew/domain'
import { type Static, type TProperties, Type } from 'typebox'
import { oneOf } from '../schemas.ts'
import { PRESETS } from './presets.ts'

const METHODS = ['POST', 'DELETE', 'PUT', 'PATCH'] as const
/** Statuses that can mean success: of an ended session, and of one that the API does not know. */
const SUCCESSES = [200, 201, 202, 204, 404, 410] as const
const LEVELS = ['done', 'begun'] as const
const HOLDS = ['issuer', 'client'] as const
const CLIENT_METHODS = ['client_secret_basic', 'client_secret_post'] as const
const REQUESTS_MAX = 3

const Request = Type.Object(
  {
    method: oneOf(METHODS),
    uri: Type.String({
      minLength: 1,
      maxLength: 2_048,
      description:
        'The address, with the placeholders {sid}, {sub} and {email}. Each is a whole segment of the path or a whole value of the query.',
    }),
    success: Type.Array(Type.Unsafe<(typeof SUCCESSES)[number]>({ type: 'integer', enum: [...SUCCESSES] }), {
      minItems: 1,
      maxItems: SUCCESSES.length,
      uniqueItems: true,
      description: 'Statuses that mean success. With 404 or 410 an unknown session or user counts as ended.',
    }),
    body: Type.Optional(
      Type.Record(
        Type.String({ pattern: '^.{1,100}$' }),
        Type.Union([Type.String({ maxLength: 1_024 }), Type.Number(), Type.Boolean()]),
        {
          maxProperties: 20,
          description: 'The members of a JSON body. A value can be a placeholder. Default: no body.',
        },
      ),
    ),
  },
  { additionalProperties: false },
)

const requestsOf = (description: string) =>
  Type.Optional(Type.Array(Request, { minItems: 1, maxItems: REQUESTS_MAX, description }))

/** The members of `curfew.channels.admin` in a registration. */
export const registration = {
  preset: Type.Optional(
    oneOf(PRESETS, { description: 'The product. It stands for session, subject, level and most of auth.' }),
  ),
  base: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 1_024,
      description: 'With preset: the address of the admin API, without the path that the preset adds.',
    }),
  ),
  realm: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9._~-]{1,255}$',
      description: 'The realm. Only with the preset keycloak.',
    }),
  ),
  session: requestsOf('The requests that end one session, sent in this order. All must succeed.'),
  subject: requestsOf('The requests that end all sessions of a user, sent in this order. All must succeed.'),
  level: Type.Optional(
    oneOf(LEVELS, {
      description:
        'The meaning of success. done: the sessions are over. begun (default): the API has accepted the request. With preset: must be absent.',
    }),
  ),
  auth: Type.Optional(
    Type.Object(
      {
        header: Type.Optional(
          Type.String({
            pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$",
            description: 'The header with the credential. Default authorization.',
          }),
        ),
        prefix: Type.Optional(
          Type.String({
            pattern: '^[\\x20-\\x7e]{0,32}$',
            description:
              'The text before the credential. Default "Bearer ", and "SSWS " with the preset okta.',
          }),
        ),
        client_id: Type.Optional(
          Type.String({
            pattern: '^[\\x20-\\x7e]{1,255}$',
            description:
              'The client whose access token is the credential (RFC 6749 section 4.4). Its secret is the secret of the channel. Absent: the secret itself is the credential.',
          }),
        ),
        token_endpoint: Type.Optional(
          Type.String({ minLength: 1, maxLength: 2_048, description: 'Where Curfew gets the access token.' }),
        ),
        method: Type.Optional(
          oneOf(CLIENT_METHODS, {
            description:
              'How Curfew authenticates at the token endpoint. Default client_secret_basic, and client_secret_post with the presets auth0 and graph.',
          }),
        ),
        scope: Type.Optional(
          Type.String({ pattern: '^[\\x20-\\x7e]{1,1000}$', description: 'The requested scope.' }),
        ),
        audience: Type.Optional(
          Type.String({ pattern: '^[\\x20-\\x7e]{1,1000}$', description: 'The requested audience.' }),
        ),
      },
      {
        additionalProperties: false,
        description: 'The credential of the requests. Absent: none, unless the preset has one.',
      },
    ),
  ),
  holds: Type.Optional(
    oneOf(HOLDS, {
      description:
        'Whose sessions the API ends. issuer (default with preset): those of the identity provider itself, so each logout of the issuer is sent. client (default otherwise): those of this client, as for any other channel.',
    }),
  ),
  widen: Type.Optional(
    Type.Boolean({
      description:
        'Default false. True: if there are no requests for session, also send logouts of one session or one device, which then end all sessions of the user.',
    }),
  ),
} satisfies TProperties

const Own = Type.Object(registration)
export type Own = Static<typeof Own>

const StoredRequest = Type.Object(
  {
    method: oneOf(METHODS),
    uri: Type.String(),
    success: Type.Array(Type.Integer()),
    body: Type.Optional(
      Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
    ),
  },
  { additionalProperties: false },
)
export type AdminRequest = Static<typeof StoredRequest>

const TextOrNull = Type.Union([Type.String(), Type.Null()])

/** The request for an access token (RFC 6749 section 4.4). Its secret is the secret of the endpoint. */
const TokenRequest = Type.Object(
  {
    endpoint: Type.String(),
    client_id: Type.String(),
    method: oneOf(CLIENT_METHODS),
    scope: TextOrNull,
    audience: TextOrNull,
  },
  { additionalProperties: false },
)
export type TokenRequest = Static<typeof TokenRequest>

/** The settings of an endpoint in the ledger. */
export const AdminSettings = Type.Object(
  {
    session: Type.Array(StoredRequest),
    subject: Type.Array(StoredRequest),
    level: oneOf(LEVELS),
    holds: oneOf(HOLDS),
    widen: Type.Boolean(),
    /** Null: the API asks for no credential. */
    auth: Type.Union([
      Type.Object(
        {
          header: Type.String(),
          prefix: Type.String(),
          /** Null: the credential is the secret itself. */
          token: Type.Union([TokenRequest, Type.Null()]),
        },
        { additionalProperties: false },
      ),
      Type.Null(),
    ]),
  },
  { additionalProperties: false },
)
export type AdminSettings = Static<typeof AdminSettings>
export type Auth = NonNullable<AdminSettings['auth']>

/** See `Channel.names`. */
export function namesOf({
  session,
  subject,
  widen,
  holds,
}: Pick<AdminSettings, 'session' | 'subject' | 'widen' | 'holds'>): Pick<
  Binding,
  'names' | 'widens' | 'always'
> {
  const names = session.length === 0 ? 'subject' : subject.length === 0 ? 'session' : 'either'
  return { names, widens: widen || names !== 'subject', always: holds === 'issuer' }
}

/** The addresses besides the endpoint's that get the secret. */
export function secretPlaces({ auth }: Partial<AdminSettings>): readonly string[] {
  return auth?.token ? [auth.token.endpoint] : []
}
