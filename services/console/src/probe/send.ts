import type { ProbeForm } from '@curfew/channels'
import type { Answer, NetworkAccess } from '@curfew/domain'
import type { GuardedClient, TlsIdentity } from '@curfew/outbound'

/** Where a probe goes. */
export interface Endpoint {
  readonly uri: string
  /** The networks that it may live at. */
  readonly access: NetworkAccess
  readonly tls: TlsIdentity | null
}

/** What a body that is too large has too much, in characters. */
const OVERSIZE = 1024 * 1024
const FORM = 'application/x-www-form-urlencoded'

/** Sends a token in one of the forms that there are. @param second another good token, where the form has two. */
export function sendProbe(
  client: Pick<GuardedClient, 'get' | 'post'>,
  {
    endpoint,
    form,
    token,
    second,
    timeoutMs,
  }: {
    readonly endpoint: Endpoint
    readonly form: ProbeForm
    readonly token: string
    readonly second: string | null
    readonly timeoutMs: number
  },
): Promise<Answer> {
  const { uri, access, tls } = endpoint
  const headers = { accept: 'application/json', 'user-agent': 'curfew' }
  const common = { uri, ...access, tls, timeoutMs, captureHeaders: true }
  const post = (body: string, type = FORM) =>
    client.post({ ...common, headers: { ...headers, 'content-type': type }, body })
  const field = `logout_token=${token}`
  switch (form) {
    case 'form':
    case 'repeated':
      return post(field)
    case 'with_charset':
      return post(field, `${FORM}; charset=utf-8`)
    case 'with_another_field':
      return post(`${field}&curfew_probe=ignored`)
    case 'twice_in_one_form':
      return post(`${field}&logout_token=${second ?? token}`)
    case 'json':
      return post(JSON.stringify({ logout_token: token }), 'application/json')
    case 'query':
      return client.get({ ...common, headers, uri: `${uri}${uri.includes('?') ? '&' : '?'}${field}` })
    case 'oversize':
      // Its signature goes on and on: everything that can be read of it sooner is right.
      return post(`${field}${'A'.repeat(OVERSIZE)}`)
    case 'no_jwt':
      return post('logout_token=curfew-probe')
    case 'without_token':
      return post('curfew_probe=ignored')
    case 'empty':
      return post('')
  }
}
