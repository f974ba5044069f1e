import type { BindingTls } from '@curfew/domain'

/** TLS of an RP's own, in PEM but for the private key, which is a compact JWE under the master key and nothing else. */
export interface StoredTls {
  readonly ca?: string
  readonly client_certificate?: string
  readonly sealed_client_key?: string
}

/** Null where there is nothing of its own. */
export function toTls({
  ca,
  client_certificate: certificate,
  sealed_client_key: sealedKey,
}: StoredTls = {}): BindingTls | null {
  const client = certificate !== undefined && sealedKey !== undefined ? { certificate, sealedKey } : null
  return ca === undefined && client === null ? null : { ca: ca ?? null, client }
}
