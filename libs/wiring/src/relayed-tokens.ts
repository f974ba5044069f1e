import {
  CLOCKS_APART_MS_MAX,
  type ClientId,
  DEFAULT_RELAY,
  type Issuer,
  type NetworkAccess,
  type RelaySettings,
} from '@curfew/domain'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import {
  createLogoutTokenVerifier,
  KeysUnavailableError,
  type LogoutTokenClaims,
  type LogoutTokenVerifier,
  type Verification,
} from '@curfew/rp'
import { createThrottle, type Log } from '@curfew/runtime'
import { createIssuerKeyStore, type SharedKeys } from './issuer-keys.ts'

/** The sender and the addressee of a logout token that an identity provider posted to the relay. */
export interface RelayedTokenSource {
  readonly iss: Issuer
  /** The client that the token must be addressed to. */
  readonly clientId: ClientId
  readonly relay: RelaySettings
  /** The networks that the issuer's key set may be in. */
  readonly networks: NetworkAccess
}

/**
 * The result of a verification. `invalid`: the token is never valid. `unavailable`: the issuer's keys cannot be had just now, so
 * the token may be genuine. `description` names the fault for the log of the identity provider, without any part of the token.
 */
export type RelayedVerification =
  | { readonly ok: true; readonly claims: LogoutTokenClaims }
  | { readonly ok: false; readonly kind: 'invalid' | 'unavailable'; readonly description: string }

/** Verifies logout tokens of the relay with the rules for relying parties (Back-Channel Logout 2.6). */
export interface RelayedTokens {
  /** @param at the time at which the token must be valid: when the relay received it. Never rejects. */
  verify(source: RelayedTokenSource, token: string, at: Date): Promise<RelayedVerification>
  /**
   * Checks everything that needs no key. The signature is not verified, so the claims may be forged. Never rejects.
   *
   * @param source null if nothing is known of the issuer. Then the token states it, and the lenient rules apply.
   */
  preview(
    source: RelayedTokenSource | { readonly clientId: ClientId },
    token: string,
    at: Date,
  ): Promise<RelayedVerification>
}

export interface RelayedTokensDeps {
  readonly client: Pick<GuardedClient, 'get'>
  readonly log: Pick<Log, 'warn'>
  readonly now: () => Date
  /** Longest time that a token waits for a fetch of keys, in milliseconds. Default 1,500: identity providers wait a few seconds. */
  readonly patienceMs?: number
}

/** Longest time of one fetch, in milliseconds. */
const FETCH_MS = 5_000
const BAD_SIGNATURE = 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'

/** Creates a verifier of relayed tokens. It keeps the keys of each issuer in memory. */
export function createRelayedTokens({
  client,
  log,
  now,
  patienceMs = 1_500,
}: RelayedTokensDeps): RelayedTokens {
  const isTime = createThrottle()
  const store = createIssuerKeyStore({
    fetch: (uri, networks) => fetchJson(client, uri, { ...networks, timeoutMs: FETCH_MS }),
    nowMs: () => now().getTime(),
    patienceMs,
    onFailed({ iss }, detail) {
      if (isTime(iss)) log.warn({ event: 'relay.keys-unavailable', iss, detail })
    },
  })

  return {
    async verify(source, token, at) {
      const fault = unsuitable(token)
      if (fault !== null) return invalid(fault)
      const { iss, relay, networks } = source
      const keys = store.keysFor({ iss, jwksUri: relay.jwksUri, networks })
      const { fetches } = keys
      const verifier = verifierFor(source, keys)
      const first = await verifier.verify(token, at)
      if (first.ok || codeOf(first) !== BAD_SIGNATURE) return resultOf(first)
      // An issuer that replaces a key may keep its `kid`, or have none.
      if (await keys.renew(fetches)) return resultOf(await verifier.verify(token, at))
      if (headerOf(token).kid === undefined) return unavailable(`newer keys of ${iss} are unavailable`)
      return resultOf(first)
    },
    async preview(source, token, at) {
      const fault = unsuitable(token)
      if (fault !== null) return invalid(fault)
      const iss = 'iss' in source ? source.iss : payloadOf(token).iss
      if (typeof iss !== 'string' || iss === '') return invalid('iss is missing')
      const relay = 'iss' in source ? source.relay : { ...DEFAULT_RELAY, lenient: true }
      const { clientId } = source
      return resultOf(await verifierFor({ iss: iss as Issuer, clientId, relay }, NO_KEYS).preview(token, at))
    },
  }
}

/** Finds no key: a preview needs none. */
const NO_KEYS: Pick<SharedKeys, 'find'> = {
  find: () => Promise.reject(new KeysUnavailableError('a preview has no keys')),
}

function verifierFor(
  { iss, clientId, relay }: Omit<RelayedTokenSource, 'networks'>,
  { find }: Pick<SharedKeys, 'find'>,
): LogoutTokenVerifier {
  return createLogoutTokenVerifier({
    ...{ issuer: iss, clientId, lenient: relay.lenient, keys: find },
    clockSkewS: CLOCKS_APART_MS_MAX / 1_000,
  })
}

function resultOf(verification: Verification): RelayedVerification {
  if (verification.ok) return { ok: true, claims: verification.claims }
  const { error, description, cause } = verification
  if (error === 'invalid_request') return invalid(description)
  if (cause instanceof KeysUnavailableError) return unavailable(cause.message)
  return invalid('the key of the issuer that the token names cannot be used: it is too short or damaged')
}

/** The fault of a token that no relay can verify; null if there is none. */
function unsuitable(token: string): string | null {
  const parts = token.split('.').length
  if (parts === 5)
    return 'the token is encrypted, and the relay has no key of the client; turn off the encryption of ID tokens for this client at the identity provider'
  const { alg } = headerOf(token)
  if (typeof alg === 'string' && /^HS\d+$/.test(alg))
    return `the token is signed with ${alg} and the secret of the client, which the relay does not know; set an asymmetric algorithm such as RS256 for this client at the identity provider`
  return null
}

function invalid(description: string): RelayedVerification {
  return { ok: false, kind: 'invalid', description }
}

function unavailable(description: string): RelayedVerification {
  return { ok: false, kind: 'unavailable', description }
}

function codeOf(verification: Verification): unknown {
  const cause = verification.ok ? null : verification.cause
  return cause instanceof Error && 'code' in cause ? cause.code : null
}

function headerOf(token: string): Readonly<Record<string, unknown>> {
  return partOf(token, 0)
}

function payloadOf(token: string): Readonly<Record<string, unknown>> {
  return partOf(token, 1)
}

/** The members of one part of a token; none if it cannot be read. The verifier reports the fault. */
function partOf(token: string, index: 0 | 1): Readonly<Record<string, unknown>> {
  try {
    const part: unknown = JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString('utf8'))
    return typeof part === 'object' && part !== null ? (part as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
