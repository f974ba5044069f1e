import {
  type ClientMetadata,
  type MemberPaths,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
} from '@curfew/domain'
import type { Fault } from './channel.ts'

/** Where a client says in which algorithm its ID tokens are signed. */
const ALGORITHM: MemberPaths = {
  oidc: 'id_token_signed_response_alg',
  keycloak: [['attributes', 'id.token.signed.response.alg']],
  auth0: [['jwt_configuration', 'alg']],
  okta: [['settings', 'oauthClient', 'id_token_signed_response_alg']],
}

/** The algorithm of a client's ID tokens, which what we sign for it is signed in. */
export function signingAlgorithmOf(client: ClientMetadata): {
  readonly algorithm: SigningAlgorithm
  readonly pointer: string
  readonly fault: Fault | null
} {
  const said = client.member(ALGORITHM)
  // RS256 where none was registered (OpenID Connect Dynamic Client Registration 2).
  const algorithm = said === null ? 'RS256' : SIGNING_ALGORITHMS.find((each) => each === said.value)
  const pointer = said?.pointer ?? `/${ALGORITHM.oidc}`
  if (algorithm !== undefined) return { algorithm, pointer, fault: null }
  const detail = `must be one of ${SIGNING_ALGORITHMS.join(', ')}: logout tokens are signed like ID tokens`
  return { algorithm: 'RS256', pointer, fault: { pointer, detail } }
}
