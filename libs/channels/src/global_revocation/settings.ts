import { type ClientMetadata, MAIN_ENDPOINT, type Names, SIGNING_ALGORITHMS } from '@curfew/domain'
import { type Static, type TProperties, Type } from 'typebox'
import type { Fault, RegisterContext, Registered, RegisteredEndpoint } from '../channel.ts'
import { oneOf } from '../schemas.ts'
import { signingAlgorithmOf } from '../signing-algorithm.ts'

/** What a request is authenticated by. */
const CREDENTIALS = ['signed_jwt', 'bearer'] as const
/** How a request names the user (RFC 9493 3.2). */
const SUBJECTS = ['iss_sub', 'email', 'opaque'] as const
const MEMBERS = ['sub_id', 'subject'] as const
const SUCCESSES = [200, 202, 204] as const
/** The member of a client's metadata that names the endpoint (Global Token Revocation 5). */
const ENDPOINT = 'global_token_revocation_endpoint'
const OWN = '/curfew/channels/global_revocation'

/** What a registration says of it, under `curfew.channels.global_revocation`. */
export const registration = {
  uri: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 2_048,
      description: `The endpoint. Default the client's ${ENDPOINT}.`,
    }),
  ),
  credential: Type.Optional(
    oneOf(CREDENTIALS, {
      description:
        "What a request is authenticated by. signed_jwt (default): a JWT for each request, signed like the client's ID tokens, as Okta Universal Logout has it. bearer: the secret as it is.",
    }),
  ),
  subject: Type.Optional(
    oneOf(SUBJECTS, {
      description:
        'How a request names the user. iss_sub (default): iss and sub. email: the email that came with the logout event. opaque: the sub alone.',
    }),
  ),
  member: Type.Optional(
    oneOf(MEMBERS, {
      description:
        'The member of the body that names the user. Default sub_id; subject was its name until draft 02.',
    }),
  ),
  success: Type.Optional(
    Type.Array(Type.Unsafe<(typeof SUCCESSES)[number]>({ type: 'integer', enum: [...SUCCESSES] }), {
      minItems: 1,
      maxItems: SUCCESSES.length,
      uniqueItems: true,
      description: 'Statuses that say that the revocation has begun. Default 204.',
    }),
  ),
  unknown_user: Type.Optional(
    oneOf(['acknowledged', 'misconfigured'], {
      description:
        'What a 404 means. acknowledged (default): the user is unknown there, so no session is left. misconfigured: the endpoint is not there.',
    }),
  ),
  widen: Type.Optional(
    Type.Boolean({
      description:
        'Whether a logout of one session or one device goes out too, and so ends all sessions of the user. Default false.',
    }),
  ),
  app: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: 'The sub of a signed JWT. Default the client_id; for a SAML application its instance id.',
    }),
  ),
} satisfies TProperties

const Own = Type.Object(registration)
type Own = Static<typeof Own>

/** The settings of such an endpoint, as the ledger keeps them. */
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
    algorithm: oneOf(SIGNING_ALGORITHMS),
  },
  { additionalProperties: false },
)
export type GlobalRevocationSettings = Static<typeof GlobalRevocationSettings>

/** Reads `curfew.channels.global_revocation`. A client that only has the endpoint in its metadata has not asked for it. */
export function readRegistration(
  client: ClientMetadata,
  { own, said }: RegisterContext<Own>,
): Registered<GlobalRevocationSettings> {
  const asked = said.channels?.global_revocation !== undefined
  const endpoint = asked ? endpointOf(client, own) : null
  const { algorithm, pointer, fault } = signingAlgorithmOf(client)
  const { credential = 'signed_jwt' } = own
  const signed = credential === 'signed_jwt'
  const faults: Fault[] = []
  if (asked && endpoint === null)
    faults.push({ pointer: `${OWN}/uri`, detail: `is missing, and so is the client's ${ENDPOINT}` })
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
    showsSecret: !signed,
    faults,
  }
}

function endpointOf(client: ClientMetadata, { uri }: Own): RegisteredEndpoint | null {
  if (uri !== undefined) return { name: MAIN_ENDPOINT, uri, enabled: true, pointer: `${OWN}/uri` }
  const said = client.member({ oidc: ENDPOINT })
  return said === null || typeof said.value !== 'string'
    ? null
    : { name: MAIN_ENDPOINT, uri: said.value, enabled: true, pointer: said.pointer }
}

/** A request names the user, and never a session (Global Token Revocation 3). */
export function namesOf({ widen }: Pick<GlobalRevocationSettings, 'widen'>): {
  names: Names
  widens: boolean
} {
  return { names: 'subject', widens: widen }
}
