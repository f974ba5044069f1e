import type { FetchedJson } from './json.ts'

/** The address of an issuer's key set, or why it is unknown. `address` is that of the discovery document. */
export type Discovered = { readonly address: string } & (
  | { readonly ok: true; readonly jwksUri: string }
  | { readonly ok: false; readonly fault: 'not_fetched'; readonly detail: string }
  /** `named`: the issuer in the document. `restricted`: tenants must see no part of the document. */
  | {
      readonly ok: false
      readonly fault: 'other_issuer'
      readonly named: unknown
      readonly restricted: boolean
    }
  | { readonly ok: false; readonly fault: 'no_jwks_uri' }
)

/**
 * Finds the `jwks_uri` in the discovery document of an issuer, whose `issuer` must be equal to `iss` byte for byte (OpenID Connect
 * Discovery section 4). Rejects only if `fetch` does.
 */
export async function discoverKeySet(
  iss: string,
  fetch: (uri: string) => Promise<FetchedJson>,
): Promise<Discovered> {
  const address = `${iss.replace(/\/$/, '')}/.well-known/openid-configuration`
  const document = await fetch(address)
  if (!document.ok) return { ok: false, address, fault: 'not_fetched', detail: document.detail }
  const { issuer: named, jwks_uri: jwksUri }: { issuer?: unknown; jwks_uri?: unknown } = Object(
    document.value,
  )
  if (named !== iss)
    return { ok: false, address, fault: 'other_issuer', named, restricted: document.restricted === true }
  return typeof jwksUri === 'string'
    ? { ok: true, address, jwksUri }
    : { ok: false, address, fault: 'no_jwks_uri' }
}
