import { type Binding, type ClientMetadata, MAIN_ENDPOINT, TOKEN_ALGORITHMS } from '@curfew/domain'
import { type Static, type TProperties, Type } from 'typebox'
import type { Fault, RegisterContext, Registered, RegisteredEndpoint } from '../channel.ts'
import { oneOf } from '../schemas.ts'
import { signingAlgorithmOf } from '../signing-algorithm.ts'

/** The kinds of credentials. */
const CREDENTIALS = ['signed_jwt', 'bearer'] as const
/** The formats of the user's identifier (RFC 9493 section 3.2). */
const SUBJECTS = ['iss_sub', 'email', 'opaque'] as const
const MEMBERS = ['sub_id', 'subject'] as const
const SUCCESSES = [200, 202, 204] as const
/** The member of a client's metadata that has the endpoint (Global Token Revocation section 5). */
const ENDPOINT = 'global_token_revocation_endpoint'
const OWN = '/curfew/channels/global_revocation'

/** The members of `curfew.channels.global_revocation` in a registration. */
export const registration = {
  uri: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 2_048,
      description: `The endpoint. Default: the client's ${ENDPOINT}.`,
    }),
  ),
  credential: Type.Optional(
    oneOf(CREDENTIALS, {
      description:
        "The credential of a request. signed_jwt (default): a JWT for each request, signed like the client's ID tokens, for Okta Universal Logout. bearer: the secret itself.",
    }),
  ),
  subject: Type.Optional(
    oneOf(SUBJECTS, {
      description:
        'The identifier of the user in a request. iss_sub (default): iss and sub. email: the email of the logout event. opaque: the sub alone.',
    }),
  ),
  member: Type.Optional(
    oneOf(MEMBERS, {
      description:
        'The member of the body that has the identifier. Default sub_id. Until draft 02 its name was subject.',
    }),
  ),
  success: Type.Optional(
    Type.Array(Type.Unsafe<(typeof SUCCESSES)[number]>({ type: 'integer', enum: [...SUCCESSES] }), {
      minItems: 1,
      maxItems: SUCCESSES.length,
      uniqueItems: true,
      description: 'Statuses that mean that the revocation has begun. Default 204.',
    }),
  ),
  unknown_user: Type.Optional(
    oneOf(['acknowledged', 'misconfigured'], {
      description:
        'The meaning of a 404. acknowledged (default): the relying party does not know the user, so no session is left. misconfigured: the endpoint does not exist.',
    }),
  ),
  widen: Type.Optional(
    Type.Boolean({
      description:
        'Default false. True: also send logouts of one session or one device, which then end all sessions of the user.',
    }),
  ),
  app: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description:
        'The sub of a signed JWT. Default: the client_id. For a SAML application, give its instance id.',
    }),
  ),
} satisfies TProperties

const Own = Type.Object(registration)
type Own = Static<typeof Own>

/** The settings of an endpoint in the ledger. */
export const GlobalRevocationSettings = Type.Object(
  {
    credential: oneOf(CREDENTIALS),
    subject: oneOf(SUBJECTS),
    member: oneOf(MEMBERS),
    success: Type.Array(Type.Integer()),
    unknown_user: oneOf(['acknowledged', 'misconfigured']),
    widen: Type.Boolean(),
    /** The `sub` of a signed JWT; null: the `client_id`. */
    app: Type.Union([Type.String(), Type.Null()]),
    algorithm: oneOf(TOKEN_ALGORITHMS),
  },
  { additionalProperties: false },
)
export type GlobalRevocationSettings = Static<typeof GlobalRevocationSettings>

/** Reads `curfew.channels.global_revocation`. The endpoint in a client's metadata alone does not enable the channel. */
export function readRegistration(
  client: ClientMetadata,
  { own, registered }: RegisterContext<Own>,
): Registered<GlobalRevocationSettings> {
  const enabled = registered.channels?.global_revocation !== undefined
  const endpoint = enabled ? endpointOf(client, own) : null
  const { algorithm, pointer, fault } = signingAlgorithmOf(client)
  const { credential = 'signed_jwt' } = own
  const signed = credential === 'signed_jwt'
  const faults: Fault[] = []
  if (enabled && endpoint === null)
    faults.push({ pointer: `${OWN}/uri`, detail: `is required, because the client has no ${ENDPOINT}` })
  if (endpoint !== null && signed && fault !== null) faults.push(fault)
  return {
    endpoints: endpoint === null ? [] : [endpoint],
    settings: {
      credential,
      subject: own.subject ?? 'iss_sub',
      member: own.member ?? 'sub_id',
      success: own.success ?? [204],
      unknown_user: own.unknown_user ?? 'acknowledged',
      widen: own.widen ?? false,
      app: own.app ?? null,
      algorithm,
    },
    signs: signed ? { algorithm, pointer } : null,
    sendsSecret: !signed,
    faults,
  }
}

function endpointOf(client: ClientMetadata, { uri }: Own): RegisteredEndpoint | null {
  if (uri !== undefined) return { name: MAIN_ENDPOINT, uri, enabled: true, pointer: `${OWN}/uri` }
  const member = client.member({ oidc: ENDPOINT })
  return member === null || typeof member.value !== 'string'
    ? null
    : { name: MAIN_ENDPOINT, uri: member.value, enabled: true, pointer: member.pointer }
}

/** The kinds of names that a request can have: always the user, never a session (Global Token Revocation section 3). */
export function namesOf({
  widen,
}: Pick<GlobalRevocationSettings, 'widen'>): Pick<Binding, 'names' | 'widens' | 'always'> {
  return { names: 'subject', widens: widen, always: false }
}
