import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

// Simulates the hosts in the documents, such as https://shop.example, on one port of this machine.

export interface Received {
  readonly method: string
  readonly host: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface World {
  /** All requests to hosts in the documents, in order. */
  readonly received: readonly Received[]
  /** Replaces the addresses of the documents by those of this run. */
  here(text: string): string
  /** Replaces the addresses of this run by those of the documents. */
  there(text: string): string
  close(): Promise<void>
}

/** The address of Curfew in the documents. */
const CURFEW = 'http://127.0.0.1:8480'

/** @param curfewUrl the address of Curfew. @param key the admin key: `cfw_…` in the documents. */
export async function openWorld({ curfewUrl, key }: { curfewUrl: string; key: string }): Promise<World> {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const [, host = '', path = ''] = /^\/([^/]+)(.*)$/.exec(request.url ?? '') ?? []
    const body = await text(request)
    received.push({ method: request.method ?? '', host, path, headers: request.headers, body })
    response.writeHead(204).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    received,
    here: (source) =>
      source
        .replaceAll(CURFEW, curfewUrl)
        .replaceAll('cfw_…', key)
        // The demo's issuer is a name only: it receives no requests.
        .replaceAll(/https:\/\/((?!idp\.)[a-z0-9.-]+\.example)(?=[/"'\s])/g, `${origin}/$1`),
    there: (output) =>
      output.replaceAll(curfewUrl, CURFEW).replaceAll(key, 'cfw_…').replaceAll(`${origin}/`, 'https://'),
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
