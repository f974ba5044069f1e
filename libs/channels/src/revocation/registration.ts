import { type ClientMetadata, MAIN_ENDPOINT, TOKEN_ALGORITHMS } from '@curfew/domain'
import type { Fault, RegisterContext, Registered, RegisteredEndpoint } from '../channel.ts'
import { METHODS, type Method, type Own, type RevocationSettings } from './settings.ts'

const OWN = '/curfew/channels/revocation'
const ENDPOINT = 'revocation_endpoint'
/** The methods of an endpoint whose metadata names none (RFC 8414 section 2). */
const DEFAULT_METHODS: readonly string[] = ['client_secret_basic']
const HMACS: readonly string[] = ['HS256', 'HS384', 'HS512']

/** Reads `curfew.channels.revocation`. The endpoint in a client's metadata alone does not enable the channel. */
export function readRegistration(
  client: ClientMetadata,
  { own, registered, settings, issuer }: RegisterContext<Own & { readonly secret?: string }>,
): Registered<RevocationSettings> {
  const faults: Fault[] = []
  const note = (member: string, detail: string) => faults.push({ pointer: `${OWN}/${member}`, detail })
  const enabled = registered.channels?.revocation !== undefined
  const endpoint = endpointOf(client, own)
  if (endpoint === null) note(ENDPOINT, `is required, because the client has no ${ENDPOINT}`)
  if (issuer.sessionIndex === 'off')
    note(
      ENDPOINT,
      'must be absent while session_index of the issuer is off: the tokens are in the session index',
    )
  const method = methodOf(client, own, note)
  const isJwt = method === 'client_secret_jwt' || method === 'private_key_jwt'
  const isTls = method === 'tls_client_auth' || method === 'self_signed_tls_client_auth'
  if (isTls && settings.tls?.client_certificate === undefined)
    note('method', `must be another: ${method} needs a client certificate, and curfew.tls has none`)
  if (method === 'private_key_jwt' && own.secret !== undefined && !isPrivateJwk(own.secret))
    note('secret', 'must be the private JWK of the client, as JSON without spaces')
  if (!isJwt)
    for (const member of ['signing_alg', 'audience'] as const)
      if (own[member] !== undefined) note(member, `must be absent with the method ${method}`)
  return {
    endpoints: enabled && endpoint !== null ? [endpoint] : [],
    settings: {
      method,
      client_id: own.client_id ?? null,
      algorithm: isJwt ? algorithmOf(client, own, { method, note }) : null,
      audience: own.audience ?? null,
    },
    signs: null,
    sendsSecret: !isTls && method !== 'none',
    faults: enabled ? faults : [],
  }
}

function endpointOf(client: ClientMetadata, own: Own): RegisteredEndpoint | null {
  const { revocation_endpoint: uri } = own
  const common = { name: MAIN_ENDPOINT, enabled: true }
  if (uri !== undefined) return { ...common, uri, pointer: `${OWN}/${ENDPOINT}` }
  const member = client.member({ oidc: ENDPOINT })
  return member === null || typeof member.value !== 'string'
    ? null
    : { ...common, uri: member.value, pointer: member.pointer }
}

type Note = (member: string, detail: string) => void

function methodOf(client: ClientMetadata, own: Own, note: Note): Method {
  const { revocation_endpoint_auth_methods_supported: stated, method } = own
  const supported = stated ?? DEFAULT_METHODS
  if (method !== undefined) {
    // Servers that take public clients, such as Keycloak, do not list the method none.
    if (stated?.includes(method) === false && method !== 'none')
      note('method', `must be one that the endpoint supports: ${stated.join(', ')}`)
    return method
  }
  const preferred = client.member({ oidc: 'token_endpoint_auth_method' })?.value
  const known = [preferred, ...supported].find(
    (name) => supported.includes(name as string) && METHODS.includes(name as Method),
  )
  if (known === undefined)
    note('revocation_endpoint_auth_methods_supported', `must have one of ${METHODS.join(', ')}`)
  return (known ?? 'client_secret_basic') as Method
}

/** The algorithm of assertions; null for that of the private JWK. */
function algorithmOf(
  client: ClientMetadata,
  own: Own,
  { method, note }: { readonly method: Method; readonly note: Note },
): string | null {
  const isHmac = method === 'client_secret_jwt'
  const fitting: readonly string[] = isHmac ? HMACS : TOKEN_ALGORITHMS
  const supported = own.revocation_endpoint_auth_signing_alg_values_supported
  const registered = client.member({ oidc: 'token_endpoint_auth_signing_alg' })?.value
  const named = own.signing_alg ?? (fitting.includes(registered as string) ? (registered as string) : null)
  if (named === null) {
    if (supported === undefined) return isHmac ? 'HS256' : null
    const first = fitting.find((algorithm) => supported.includes(algorithm))
    if (first === undefined)
      note('revocation_endpoint_auth_signing_alg_values_supported', `must have one of ${fitting.join(', ')}`)
    // Which of several algorithms fits, the JWK decides.
    return isHmac ? (first ?? 'HS256') : null
  }
  if (!fitting.includes(named)) note('signing_alg', `must be one of ${fitting.join(', ')} for ${method}`)
  else if (supported?.includes(named) === false)
    note('signing_alg', `must be one that the endpoint supports: ${supported.join(', ')}`)
  return named
}

/** Whether a text looks like a private JWK. The first use checks the key itself. */
function isPrivateJwk(text: string): boolean {
  try {
    const jwk: unknown = JSON.parse(text)
    return typeof jwk === 'object' && jwk !== null && 'kty' in jwk && 'd' in jwk
  } catch {
    // Not JSON, so no JWK. The caller says so.
    return false
  }
}
