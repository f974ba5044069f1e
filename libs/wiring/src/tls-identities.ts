import type { Binding, BindingTls } from '@curfew/domain'
import type { TlsIdentity } from '@curfew/outbound'
import type { ClientKeySealer } from '@curfew/tokens'

/** Returns a binding's own TLS identity, its private key open; null if it has none. @throws {ClientKeyError} as `open`. */
export type TlsIdentities = (
  binding: Pick<Binding, 'issuer' | 'clientId' | 'tls'>,
) => Promise<TlsIdentity | null>

/** Opens each key once until the registry is read again. */
export function createTlsIdentities({ open }: Pick<ClientKeySealer, 'open'>): TlsIdentities {
  const identities = new WeakMap<BindingTls, Promise<TlsIdentity>>()

  async function identityOf(
    { ca, client }: BindingTls,
    { issuer, clientId }: Pick<Binding, 'issuer' | 'clientId'>,
  ): Promise<TlsIdentity> {
    if (client === null) return { ca, client: null }
    const key = await open(client.sealedKey, { issuer, clientId })
    return { ca, client: { certificate: client.certificate, key } }
  }

  return async (binding) => {
    const { tls } = binding
    if (tls === null) return null
    const identity = identities.get(tls) ?? identityOf(tls, binding)
    identities.set(tls, identity)
    return identity
  }
}
