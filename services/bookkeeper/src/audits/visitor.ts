import type { Answer, NetworkAccess } from '@curfew/domain'
import type { GuardedClient, TlsIdentity } from '@curfew/outbound'
import { CookieJar } from 'tough-cookie'

export interface VisitorOptions {
  readonly client: Pick<GuardedClient, 'get' | 'post'>
  /** The networks of the relying party. Every request stays within them. */
  readonly access: NetworkAccess
  /** The TLS settings of the relying party, for the origins that are its own. */
  readonly tls: TlsIdentity | null
  readonly ownOrigins: ReadonlySet<string>
}

export interface VisitRequest {
  readonly url: string
  readonly method?: 'GET' | 'POST'
  /** Default: those of a navigation. Names in lower case. */
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly timeoutMs: number
  /** Whether the jar keeps the cookies of the answer. Default: always. */
  readonly keeps?: (answer: Visited) => boolean
}

/** An answer without the parts that may be secret. */
export interface Visited {
  readonly url: string
  readonly status: number
  readonly body: string
  /** The absolute target of a redirect, unabridged; null if the answer is none. */
  readonly location: string | null
  /** The same target for people: without the values of its parameters. Null also if it must not be shown. */
  readonly shownLocation: string | null
}

/** A request without an answer, in words without secrets. */
export interface Unanswered {
  readonly detail: string
}

/** A client with cookies: what a browser is to a session. It follows no redirect by itself. */
export interface Visitor {
  visit(request: VisitRequest): Promise<Visited | Unanswered>
  /** Adds a cookie as `name=value` or as a `Set-Cookie`. @returns false if it cannot be sent to the URL. */
  addCookie(cookie: string, url: string): Promise<boolean>
}

/** The user agent of every request of an audit. */
export const USER_AGENT = 'curfew-audit'
/** A login page of an IdP may be large. */
const BYTES_MAX = 512 * 1024
/** The headers of a navigation in a browser. RPs redirect only navigations to the login. */
export const NAVIGATION: Readonly<Record<string, string>> = {
  accept: 'text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'user-agent': USER_AGENT,
}

/** Most cookies of one visitor. Browsers keep about as many of one site. */
const COOKIES_MAX = 200
/** Longest `Set-Cookie` that is kept, in characters. Browsers keep a name and value of 4,096 bytes. */
const COOKIE_LENGTH_MAX = 8_192

export function createVisitor({ client, access, tls, ownOrigins }: VisitorOptions): Visitor {
  const jar = new CookieJar()
  const known = new Set<string>()

  // An audit asks for an hour at most. Without bounds, new names of cookies in each answer would fill the memory.
  async function keep(lines: string | undefined, url: string): Promise<void> {
    for (const line of lines?.split('\n') ?? []) {
      if (line.length > COOKIE_LENGTH_MAX) continue
      // A cookie that a browser would refuse is ignored, as there.
      const cookie = await jar.setCookie(line, url, { ignoreError: true })
      if (cookie === undefined) continue
      const { domain, path, key } = cookie
      const id = `${domain} ${path} ${key}`
      if (known.size < COOKIES_MAX) known.add(id)
      else if (!known.has(id)) await jar.store.removeCookie(domain ?? '', path ?? '', key)
    }
  }

  return {
    async addCookie(cookie, url) {
      try {
        return (await jar.setCookie(cookie, url)) !== undefined && (await jar.getCookieString(url)) !== ''
      } catch {
        // The jar says why a cookie is not for the URL. The texts quote the cookie, so they are dropped.
        return false
      }
    },
    async visit({ url, method = 'GET', headers = NAVIGATION, body = '', timeoutMs, keeps = () => true }) {
      const target = URL.parse(url)
      if (target === null) return { detail: 'the address is no URL' }
      const cookie = await jar.getCookieString(url)
      const request = {
        uri: url.replace(/#.*$/, ''),
        headers: { ...headers, ...(cookie !== '' && { cookie: joined(headers.cookie, cookie) }) },
        timeoutMs,
        ...access,
        tls: ownOrigins.has(target.origin) ? tls : null,
        responseBytesMax: BYTES_MAX,
        captureHeaders: true,
      }
      const answer = method === 'GET' ? await client.get(request) : await client.post({ ...request, body })
      if (answer.kind !== 'response') return { detail: answer.detail }
      const visited = visitedOf(answer, url)
      if (keeps(visited)) await keep(answer.headers?.['set-cookie'], url)
      return visited
    },
  }
}

function joined(given: string | undefined, cookie: string): string {
  return given === undefined ? cookie : `${given}; ${cookie}`
}

function visitedOf(answer: Extract<Answer, { kind: 'response' }>, url: string): Visited {
  const { status, body, location: shown = null, restricted = false, headers = {} } = answer
  const redirect = shown === null ? undefined : headers.location
  return {
    ...{ url, status, body },
    location: redirect === undefined ? null : (URL.parse(redirect, url)?.href ?? null),
    shownLocation: restricted ? null : shown,
  }
}
