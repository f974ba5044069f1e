import swaggerUi from '@fastify/swagger-ui'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { PUBLIC } from './access.ts'
import type { HttpServer } from './http-server.ts'

// The pages for a person: a description of the service, and of its API.

const DOCS = '/docs'

/** Loads only files of this service, and calls only this service. */
const PAGE_POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self' 'unsafe-inline'",
  'img-src': "'self' data:",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
}

/** Whether a route is a page of the API's documentation. The plugin that adds these routes declares no scopes. */
export function isPage(url: string): boolean {
  return url === DOCS || url.startsWith(`${DOCS}/`)
}

/** Adds `/`, and `/docs` if the service has an API. */
export async function addPages(
  server: HttpServer,
  {
    title,
    document,
    hasApi,
  }: { readonly title: string; readonly document: () => { readonly body: string }; readonly hasApi: boolean },
): Promise<void> {
  const links = {
    ...(hasApi && { docs: DOCS }),
    ...{ openapi: '/openapi.json', health: '/healthz', readiness: '/readyz' },
  }
  const index = {
    name: title,
    what: 'Curfew delivers the logouts of an identity provider to its relying parties, and proves it.',
    links,
  }
  server.get('/', { schema: { hide: true }, config: { scope: PUBLIC } }, async (request, reply) =>
    wantsHtml(request) ? html(reply, index) : index,
  )
  if (!hasApi) return
  await server.register(swaggerUi, {
    routePrefix: DOCS,
    staticCSP: PAGE_POLICY,
    // The plugin calls the document "specification".
    transformSpecification: () => JSON.parse(document().body),
    transformSpecificationClone: false,
    uiConfig: { docExpansion: 'list', filter: true, tryItOutEnabled: true, persistAuthorization: false },
    theme: { title: `${title} API` },
    logo: { type: 'image/svg+xml', content: Buffer.from(LOGO) },
  })
}

/** Whether a browser asks. Other clients get JSON. */
function wantsHtml({ headers: { accept = '' } }: FastifyRequest): boolean {
  return accept.split(',').some((range) => range.trim().startsWith('text/html'))
}

function html(
  reply: FastifyReply,
  { name, what, links }: { name: string; what: string; links: Readonly<Record<string, string>> },
): FastifyReply {
  const items = Object.entries(links).map(([text, path]) => `<li><a href="${path}">${text}</a></li>`)
  return reply
    .headers({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    })
    .serializer((text: string) => text)
    .send(
      `<!doctype html><html lang="en"><title>${name}</title><h1>${name}</h1><p>${what}</p><ul>${items.join('')}</ul></html>\n`,
    )
}

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" width="150" height="40"><text x="0" y="28" font-family="sans-serif" font-size="26" fill="#fff">Curfew</text></svg>'
