import type { Binding, LogoutEvent } from '@curfew/domain'

/** How long a token without `exp` is forwarded after its `iat`, in seconds: the lifetime that section 4 recommends. */
const LIFETIME_S = 120

/** The IdP's own token for this client, which the first attempt forwards. Null if the event has none. */
export function forwardedToken(
  { relayed }: Pick<LogoutEvent, 'relayed'>,
  { clientId }: Pick<Binding, 'clientId'>,
): string | null {
  return relayed?.clientId === clientId ? relayed.token : null
}

/** The id of a forwarded token; null if the token is no longer valid. Its signature was verified before it was planned. */
export function forwardableJti(token: string, now: Date): string | null {
  const [, payload = ''] = token.split('.')
  const { jti, iat, exp } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as {
    readonly jti: string
    readonly iat: number
    readonly exp?: number
  }
  return (exp ?? iat + LIFETIME_S) * 1_000 > now.getTime() ? jti : null
}
