import {
  type ClientMetadata,
  clientAlgorithmFault,
  isTokenAlgorithm,
  type KnownMember,
  type MemberPaths,
  type TokenAlgorithm,
} from '@curfew/domain'
import type { Fault } from './channel.ts'

/** The members of client metadata that name the signing algorithm of ID tokens. */
const ALGORITHM: MemberPaths = {
  oidc: 'id_token_signed_response_alg',
  keycloak: [['attributes', 'id.token.signed.response.alg']],
  auth0: [['jwt_configuration', 'alg']],
  okta: [['settings', 'oauthClient', 'id_token_signed_response_alg']],
  others: [
    // Duende IdentityServer's list. A list of several is reported as a notice of the import.
    ['AllowedIdentityTokenSigningAlgorithms', 0],
    ['allowedIdentityTokenSigningAlgorithms', 0],
    // Spring Authorization Server, whose exports may have the type of the value before it.
    ['tokenSettings', 'settings.token.id-token-signature-algorithm', 1],
    ['tokenSettings', 'settings.token.id-token-signature-algorithm'],
    // PingFederate.
    ['oidcPolicy', 'idTokenSigningAlgorithm'],
  ],
}

/** The signing algorithm that a client's metadata names for its ID tokens; null if it names none. */
export function namedAlgorithmOf(client: ClientMetadata): KnownMember | null {
  return client.member(ALGORITHM)
}

/** The signing algorithm of a client's ID tokens. Curfew uses it for all signatures for the client. */
export function signingAlgorithmOf(client: ClientMetadata): {
  readonly algorithm: TokenAlgorithm
  readonly pointer: string
  readonly fault: Fault | null
} {
  const member = namedAlgorithmOf(client)
  // The default is RS256 (OpenID Connect Dynamic Client Registration section 2).
  const algorithm = member === null ? 'RS256' : member.value
  const pointer = member?.pointer ?? `/${ALGORITHM.oidc}`
  if (isTokenAlgorithm(algorithm)) return { algorithm, pointer, fault: null }
  return { algorithm: 'RS256', pointer, fault: { pointer, detail: clientAlgorithmFault(algorithm) ?? '' } }
}
