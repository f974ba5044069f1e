import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A proxy to a server that can be shut. Shutting it cuts its connections and refuses new ones. */
export interface Gate {
  /** The server's URL, but through the gate. */
  readonly url: string
  shut(): Promise<void>
  open(): Promise<void>
  /** Accepts bytes and forwards none until `open`, as a network that drops packets does. */
  swallow(): void
  close(): Promise<void>
}

/** Opens a gate on loopback, in front of the server in `target`. */
export async function openGate(target: string): Promise<Gate> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let swallowing = false
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('data', (chunk) => {
        if (!swallowing) other.write(chunk)
      })
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        if (!swallowing) other.destroy()
      })
    }
  })
  const listen = async (at: number) => {
    server.listen(at, '127.0.0.1')
    await once(server, 'listening')
  }
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  await listen(0)
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the gate does not listen on a port')
  const url = new URL(target)
  url.hostname = '127.0.0.1'
  // The server's own Unix socket would bypass the gate.
  url.searchParams.delete('host')
  url.port = String(address.port)

  const shut = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    cut()
    await closed
  }
  return {
    url: url.href,
    shut,
    async open() {
      if (swallowing) cut()
      swallowing = false
      if (!server.listening) await listen(address.port)
    },
    swallow() {
      swallowing = true
    },
    close: shut,
  }
}
