import type { Answer } from '@curfew/domain'
import type { ProbeTools } from '../../channel.ts'
import type { ProbeForm } from './probe.ts'

/** What a body that is too large has too much, in characters. */
const OVERSIZE = 1024 * 1024
const FORM = 'application/x-www-form-urlencoded'

/** Sends a token in one of the forms that there are. @param second another good token, where the form has two. */
export function sendProbe(
  http: ProbeTools['http'],
  {
    uri,
    form,
    token,
    second,
    timeoutMs,
  }: {
    readonly uri: string
    readonly form: ProbeForm
    readonly token: string
    readonly second: string | null
    readonly timeoutMs: number
  },
): Promise<Answer> {
  const headers = { accept: 'application/json', 'user-agent': 'curfew' }
  const post = (body: string, type = FORM) =>
    http.post({ uri, timeoutMs, headers: { ...headers, 'content-type': type }, body })
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
      return http.get({ timeoutMs, headers, uri: `${uri}${uri.includes('?') ? '&' : '?'}${field}` })
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
