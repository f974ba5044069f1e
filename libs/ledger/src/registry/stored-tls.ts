import type { BindingTls } from '@curfew/domain'

/** TLS settings of an RP, in PEM. The private key is stored only as a compact JWE under the master key. */
export interface StoredTls {
  readonly ca?: string
  readonly client_certificate?: string
  readonly sealed_client_key?: string
}

/** Returns null if the RP has no TLS settings of its own. */
export function toTls({
  ca,
  client_certificate: certificate,
  sealed_client_key: sealedKey,
}: StoredTls = {}): BindingTls | null {
  const client = certificate !== undefined && sealedKey !== undefined ? { certificate, sealedKey } : null
  return ca === undefined && client === null ? null : { ca: ca ?? null, client }
}
