import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A server whose port is known before its handler, because the IdP and the RPs need each other's URLs. */
export interface Listener {
  /** The URL without a trailing slash. */
  readonly url: string
  serve(handler: RequestListener): void
  close(): Promise<void>
}

export async function listen(): Promise<Listener> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    serve: (handler) => void server.on('request', handler),
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
