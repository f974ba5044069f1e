import type { KeysCheck } from '@curfew/contract'
import { issuerNetworkAccess, type NetworkAccess } from '@curfew/domain'
import type { IssuerRecord } from '@curfew/ledger'
import { discoverKeySet, fetchJson, type GuardedClient } from '@curfew/outbound'
import { networksOf } from '../registry/networks.ts'

export type Finding = KeysCheck['discovery']

/** A key set of an IdP, and the finding about it. */
export interface KeySet {
  readonly uri: string
  readonly finding: Finding
  /** Null if it could not be fetched. */
  readonly keys: readonly unknown[] | null
}

/** The key sets of an IdP. Both are the one that discovery names, unless the issuer has a jwks_uri. Null: no address is known. */
export interface KeySets {
  readonly discovery: Finding
  /** Where relying parties find keys. */
  readonly published: KeySet | null
  /** With which the relay verifies. */
  readonly verifying: KeySet | null
  /** Whether the issuer is a made-up one, at which no IdP answers. */
  readonly isExample: boolean
}

/** The names for examples: RFC 2606, sections 2 and 3. */
const EXAMPLE = /(?:^|\.)example(?:\.(?:com|net|org))?$/

/** Fetches the key sets of an IdP. */
export async function fetchKeySets(
  client: Pick<GuardedClient, 'get'>,
  issuer: IssuerRecord,
): Promise<KeySets> {
  const how = issuerNetworkAccess(networksOf(issuer))
  const own = issuer.relay.jwksUri
  const { uri, finding, reached, isExample } = await discover(client, issuer, how)
  const verifying = own === null ? null : await fetchKeySet(client, own, how)
  const published = uri === null ? verifying : uri === own ? verifying : await fetchKeySet(client, uri, how)
  const discovery =
    reached || own === null
      ? finding
      : { ok: true, what: `${finding.what} The jwks_uri of the issuer is used in its place.`, fix: null }
  return { discovery, published, verifying: verifying ?? published, isExample }
}

/**
 * Finds the address of the IdP's key set in its discovery document (OpenID Connect Discovery section 4). `reached`: whether the
 * document could be fetched.
 */
async function discover(
  client: Pick<GuardedClient, 'get'>,
  { iss }: IssuerRecord,
  how: NetworkAccess,
): Promise<{
  readonly uri: string | null
  readonly finding: Finding
  readonly reached: boolean
  readonly isExample: boolean
}> {
  const found = await discoverKeySet(iss, (uri) => fetchJson(client, uri, how))
  const wrong = (what: string, fix: string, reached = true) => ({
    uri: null,
    finding: { ok: false, what, fix },
    reached,
    isExample: false,
  })
  if (found.ok) {
    const what = `The discovery document ${found.address} has the registered issuer.`
    return { uri: found.jwksUri, finding: { ok: true, what, fix: null }, reached: true, isExample: false }
  }
  switch (found.fault) {
    case 'not_fetched': {
      const fix =
        'Check that the IdP answers at this address, and that Curfew may connect to it (CURFEW_ALLOWED_NETWORKS, defaults.allowed_networks).'
      const what = `The discovery document ${found.address} could not be fetched: ${found.detail}.`
      if (!EXAMPLE.test(URL.parse(iss)?.hostname ?? '')) return wrong(what, fix, false)
      return {
        uri: null,
        finding: {
          ok: true,
          what: `${what} The name of this issuer is reserved for examples, so no IdP answers there.`,
          fix: 'Before you use this issuer for an IdP, register the iss of its ID tokens.',
        },
        reached: false,
        isExample: true,
      }
    }
    case 'other_issuer': {
      // Only an unbound admin may allow this network. The answer must not show a tenant any content of the document.
      const other = found.restricted ? 'another' : (JSON.stringify(found.named) ?? 'nothing').slice(0, 200)
      const what = `The issuer in the discovery document is ${other}, but ${iss} is registered. Both must be equal, byte for byte.`
      return wrong(what, 'Register the iss of the ID tokens.')
    }
    case 'no_jwks_uri':
      return wrong('The discovery document has no jwks_uri.', 'Have the IdP publish a jwks_uri.')
  }
}

async function fetchKeySet(
  client: Pick<GuardedClient, 'get'>,
  uri: string,
  how: NetworkAccess,
): Promise<KeySet> {
  const keySet = await fetchJson(client, uri, how)
  const { keys } = Object(keySet.ok ? keySet.value : null) as { readonly keys?: unknown }
  if (!keySet.ok || !Array.isArray(keys)) {
    const why = keySet.ok ? 'is not a JWK Set' : `could not be fetched: ${keySet.detail}`
    const fix = 'Check that the IdP answers with a JWK Set at this address.'
    return { uri, finding: { ok: false, what: `The key set ${uri} ${why}.`, fix }, keys: null }
  }
  const what = `The key set ${uri} has ${keys.length === 1 ? 'one key' : `${keys.length} keys`}.`
  return { uri, finding: { ok: true, what, fix: null }, keys }
}
