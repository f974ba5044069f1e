import { type IncomingHttpHeaders, request } from 'node:http'

const HOPS_MAX = 20

/** The page that a browser shows after all redirects. */
export interface Page {
  /** The URL after redirects. */
  readonly url: string
  readonly status: number
  readonly body: string
}

/** A minimal browser for logins: it follows redirects, keeps cookies and sends forms. */
export interface Browser {
  open(url: string): Promise<Page>
  /** Opens the first link of the page whose URL matches. @returns `page` itself if there is none. */
  follow(page: Page, url: RegExp): Promise<Page>
  /** Sends the only form of the page, with its hidden fields. */
  submit(page: Page, fields?: Readonly<Record<string, string>>): Promise<Page>
}

/** Opens a new browser profile. As in every browser, ports do not separate cookies (RFC 6265 8.5). */
export function openBrowser(): Browser {
  const cookies = new Map<string, { readonly name: string; readonly value: string; readonly path: string }>()

  function keep(url: URL, lines: readonly string[]): void {
    for (const line of lines) {
      const [pair = '', ...attributes] = line.split(';').map((part) => part.trim())
      const attribute = (name: string) =>
        attributes.find((text) => text.toLowerCase().startsWith(`${name}=`))?.slice(name.length + 1)
      const name = pair.slice(0, pair.indexOf('='))
      const path = attribute('path') ?? (url.pathname.replace(/\/[^/]*$/, '') || '/')
      const expires = attribute('expires')
      const gone =
        attribute('max-age') === '0' || (expires !== undefined && Date.parse(expires) <= Date.now())
      const key = `${path} ${name}`
      if (gone) cookies.delete(key)
      else cookies.set(key, { name, value: pair.slice(name.length + 1), path })
    }
  }

  function cookiesFor({ pathname }: URL): string {
    return [...cookies.values()]
      .filter(({ path }) => pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`))
      .toSorted((a, b) => b.path.length - a.path.length)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
  }

  async function visit(target: string, form: URLSearchParams | null): Promise<Page> {
    let url = new URL(target)
    let body = form
    for (let hop = 0; hop < HOPS_MAX; hop++) {
      const { status, headers, text } = await send(url, body, cookiesFor(url))
      keep(url, headers['set-cookie'] ?? [])
      if (headers.location === undefined) return { url: url.href, status, body: text }
      url = new URL(headers.location, url)
      // After a 303, and in practice after a 302, browsers continue with GET.
      body = null
    }
    throw new Error(`${target} was redirected more than ${HOPS_MAX} times, the last time to ${url.href}`)
  }

  return {
    open: (url) => visit(url, null),
    async follow(page, url) {
      const links = [...page.body.matchAll(/href="([^"]*)"/g)].map(([, link = '']) =>
        link.replaceAll('&amp;', '&'),
      )
      const link = links.find((each) => url.test(each))
      return link === undefined ? page : visit(new URL(link, page.url).href, null)
    },
    submit(page, fields = {}) {
      const form = /<form[^>]*>/.exec(page.body)?.[0]
      const action = /action="([^"]*)"/.exec(form ?? '')?.[1]
      if (action === undefined) throw new Error(`no form at ${page.url} (${page.status}): ${page.body}`)
      const hidden = [...page.body.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([input]) => [
        /name="([^"]*)"/.exec(input)?.[1] ?? '',
        /value="([^"]*)"/.exec(input)?.[1] ?? '',
      ])
      const all = { ...Object.fromEntries(hidden), ...fields }
      return visit(new URL(action.replaceAll('&amp;', '&'), page.url).href, new URLSearchParams(all))
    },
  }
}

/** Sends a request with the headers of a navigation. RPs redirect only navigations to the login, not requests of `fetch`. */
function send(
  url: URL,
  form: URLSearchParams | null,
  cookie: string,
): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      accept: 'text/html',
      'sec-fetch-mode': 'navigate',
      'sec-fetch-dest': 'document',
      ...(cookie !== '' && { cookie }),
      ...(form !== null && { 'content-type': 'application/x-www-form-urlencoded' }),
    }
    const sent = request(url, { method: form === null ? 'GET' : 'POST', headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
      })
    })
    sent.once('error', reject)
    sent.end(form?.toString())
  })
}
