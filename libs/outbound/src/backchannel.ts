import type { Answer, Binding, NetworkAccess } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'
import type { TlsIdentity } from './tls-identity.ts'

/**
 * Sends a logout token to an RP (Back-Channel Logout 2.5): a form with the one field `logout_token`, and nothing else.
 * Never rejects for what the RP did.
 */
export function postLogoutToken(
  client: Pick<GuardedClient, 'post'>,
  {
    binding,
    token,
    tls = null,
  }: {
    binding: Pick<Binding, 'uri' | 'timeoutMs'> & NetworkAccess
    token: string
    /** The binding's own, its key open. */
    tls?: TlsIdentity | null
  },
): Promise<Answer> {
  return client.post({
    uri: binding.uri,
    // A compact JWS has only characters that a form leaves as they are.
    body: `logout_token=${token}`,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      'user-agent': 'curfew',
    },
    timeoutMs: binding.timeoutMs,
    allowedNetworks: binding.allowedNetworks,
    ...(binding.grantedNetworks !== undefined && { grantedNetworks: binding.grantedNetworks }),
    tls,
  })
}
