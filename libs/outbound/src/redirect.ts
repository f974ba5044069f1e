import { cleanText } from '@curfew/domain'

/** A longer name or path segment may be a secret itself. */
const NAME_LENGTH_MAX = 64
const CUT = '…'

/**
 * The target of a redirect, for people: its scheme, host, path and the names of its parameters. Values, user names and fragments may
 * be secrets, so each is replaced by an ellipsis.
 *
 * @param location the `Location` of an answer. It may be relative.
 * @param base the address that was requested.
 * @returns null if the target is no URL.
 */
export function redirectTarget(location: string, base: URL): string | null {
  const url = URL.parse(location, base)
  if (url === null) return null
  // The rest of another scheme, such as that of an app, has no known parts.
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return cleanText(`${url.protocol}${CUT}`)
  const user = url.username === '' && url.password === '' ? '' : `${CUT}@`
  const path = url.pathname.split('/').map(segment).join('/')
  const query = url.search === '' ? '' : `?${url.search.slice(1).split('&').map(parameter).join('&')}`
  const fragment = url.hash === '' ? '' : `#${CUT}`
  return cleanText(`${url.protocol}//${user}${url.host}${path}${query}${fragment}`)
}

/**
 * A segment of a path. It may have parameters of its own, such as `;jsessionid=…`. The delimiter may be encoded, as in
 * `%3Fcode%3D…`.
 */
function segment(text: string): string {
  const [name = '', ...parameters] = text.split(';')
  const value = name.search(/=|%3D/i)
  const shown = value === -1 ? name : `${name.slice(0, value)}=${CUT}`
  return [shown.length > NAME_LENGTH_MAX ? CUT : shown, ...parameters.map(parameter)].join(';')
}

function parameter(text: string): string {
  const [name = '', value] = text.split('=', 2)
  return value === undefined || name.length > NAME_LENGTH_MAX ? CUT : `${name}=${CUT}`
}
