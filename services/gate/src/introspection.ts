import type { GuardedClient } from '@curfew/outbound'

/** Whether the issuer says that a token is active (RFC 7662). Null: it does not say. Never rejects. */
export type Introspect = (token: string) => Promise<boolean | null>

export interface IntrospectionOptions {
  readonly endpoint: string
  readonly clientId: string
  readonly clientSecret: string
  readonly client: Pick<GuardedClient, 'post'>
  /** Called with the reason when the issuer does not say. */
  readonly onFailed: (detail: string) => void
}

/** A request of a client waits for it. */
const TIMEOUT_MS = 2_000

export function createIntrospect(options: IntrospectionOptions): Introspect {
  const { endpoint, clientId, clientSecret, client, onFailed } = options
  // RFC 6749 2.3.1: both are form-encoded before they are joined.
  const [id, secret] = [clientId, clientSecret].map((text) =>
    new URLSearchParams([['', text]]).toString().slice(1),
  )
  const authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
  return async (token) => {
    const answer = await client.post({
      uri: endpoint,
      timeoutMs: TIMEOUT_MS,
      allowedNetworks: null,
      headers: {
        ...{ authorization, accept: 'application/json', 'user-agent': 'curfew' },
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ token, token_type_hint: 'access_token' }).toString(),
    })
    if (answer.kind !== 'response') {
      onFailed(answer.detail)
      return null
    }
    const active = answer.status === 200 ? activeOf(answer.body) : null
    if (active === null) onFailed(`answered ${answer.status} without a boolean active`)
    return active
  }
}

function activeOf(body: string): boolean | null {
  try {
    const { active }: { active?: unknown } = Object(JSON.parse(body))
    return typeof active === 'boolean' ? active : null
  } catch {
    // The body is not JSON.
    return null
  }
}
