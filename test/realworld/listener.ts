import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A server whose port is known before its handler, because the IdP and the RPs need each other's URLs. */
export interface Listener {
  /** The URL without a trailing slash. */
  readonly url: string
  serve(handler: RequestListener): void
  /** Refuses connections until `resume`. */
  pause(): Promise<void>
  /** Listens again on the same port. */
  resume(): Promise<void>
  close(): Promise<void>
}

export async function listen(): Promise<Listener> {
  const server = createServer()
  const start = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const stop = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  const port = await start(0)
  return {
    url: `http://127.0.0.1:${port}`,
    serve: (handler) => void server.on('request', handler),
    pause: stop,
    resume: async () => void (await start(port)),
    close: stop,
  }
}
