import type { RelyingPartySettings } from '@curfew/contract'
import type { StoredTls } from '@curfew/ledger'
import { tlsFaults } from '@curfew/outbound'
import type { Fault } from '@curfew/runtime'

/** TLS settings as they are given and shown. The key comes in, and never goes out. */
export type ClientTls = NonNullable<RelyingPartySettings['tls']>

/** What is wrong with TLS settings. @param stored those of the registration that these replace. */
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
      detail: 'must come with client_certificate; it may be left out while that stays as it is registered',
    })
  }
  if (uris.some((uri) => URL.parse(uri)?.protocol === 'http:')) {
    faults.push({
      pointer: '/curfew/tls',
      detail: 'must be left out where an endpoint is not https',
    })
  }
  return faults
}

/**
 * What is stored of TLS settings without faults.
 *
 * @param seal seals a private key for this relying party, unless `kept` holds the same one.
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
      : await seal(client_key, stored?.sealed_client_key ?? null)
  return {
    ...(ca !== undefined && { ca }),
    ...(client_certificate !== undefined && { client_certificate }),
    ...(sealed_client_key !== null && { sealed_client_key }),
  }
}

/** What is shown of TLS settings: all but the key. Who puts them back so keeps the key that is there. */
export function clientTlsView({ ca, client_certificate }: StoredTls): ClientTls {
  return { ...(ca !== undefined && { ca }), ...(client_certificate !== undefined && { client_certificate }) }
}

/** The stored key of the certificate that is given again. */
function keptKey(
  { client_certificate }: { client_certificate?: string | undefined },
  stored: StoredTls | undefined,
): string | null {
  if (client_certificate === undefined || stored?.client_certificate !== client_certificate) return null
  return stored.sealed_client_key ?? null
}
