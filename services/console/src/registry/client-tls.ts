import type { RelyingPartySettings } from '@curfew/contract'
import type { StoredTls } from '@curfew/ledger'
import { strictCertificates, strictKey, tlsFaults } from '@curfew/outbound'
import type { Fault } from '@curfew/runtime'

/** TLS settings in requests and answers. Only requests have the private key. */
export type ClientTls = NonNullable<RelyingPartySettings['tls']>

/** The faults of TLS settings. `stored` has the TLS settings of the registration that these replace. */
export function clientTlsFaults(
  tls: ClientTls | undefined,
  { stored, uris }: { stored: StoredTls | undefined; uris: readonly string[] },
): Fault[] {
  if (tls === undefined) return []
  const faults: Fault[] = tlsFaults(tls).map(({ member, detail }) => ({
    pointer: `/curfew/tls/${member}`,
    detail,
  }))
  if (tls.client_certificate !== undefined && tls.client_key === undefined && keptKey(tls, stored) === null) {
    faults.push({
      pointer: '/curfew/tls/client_key',
      detail: 'is required with client_certificate, unless the certificate is the registered one',
    })
  }
  if (uris.some((uri) => URL.parse(uri)?.protocol === 'http:')) {
    faults.push({
      pointer: '/curfew/tls',
      detail: 'must be absent if an endpoint is not https',
    })
  }
  return faults
}

/**
 * The form of valid TLS settings for storage. PEM is stored in its standard form, without the text around it.
 *
 * @param seal seals a private key for this relying party, unless the sealed `kept` is the same key.
 */
export async function storedClientTls(
  { ca, client_certificate, client_key }: ClientTls,
  {
    stored,
    seal,
  }: { stored: StoredTls | undefined; seal: (key: string, kept: string | null) => Promise<string> },
): Promise<StoredTls> {
  const sealed_client_key =
    client_key === undefined
      ? keptKey({ client_certificate }, stored)
      : await seal(strictKey(client_key), stored?.sealed_client_key ?? null)
  return {
    ...(ca !== undefined && { ca: strictCertificates(ca) }),
    ...(client_certificate !== undefined && { client_certificate: strictCertificates(client_certificate) }),
    ...(sealed_client_key !== null && { sealed_client_key }),
  }
}

/** TLS settings for answers, without the private key. Putting them back unchanged keeps the stored key. */
export function clientTlsView({ ca, client_certificate }: StoredTls): ClientTls {
  return { ...(ca !== undefined && { ca }), ...(client_certificate !== undefined && { client_certificate }) }
}

/** The stored key, if the request has the stored certificate again; null otherwise. */
function keptKey(
  { client_certificate }: { client_certificate?: string | undefined },
  stored: StoredTls | undefined,
): string | null {
  if (client_certificate === undefined) return null
  if (stored?.client_certificate !== strictCertificates(client_certificate)) return null
  return stored.sealed_client_key ?? null
}
