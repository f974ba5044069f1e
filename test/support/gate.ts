import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A way to a server that can be shut: connections through it are cut, new ones refused. */
export interface Gate {
  /** As the server's own, but through the gate. */
  readonly url: string
  shut(): Promise<void>
  open(): Promise<void>
  /** Takes bytes and passes none on, as a network does that lost its way. Until `open`. */
  swallow(): void
  close(): Promise<void>
}

/** Opens a gate on loopback, before the server that `target` names. */
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
  if (typeof address !== 'object' || address === null) throw new Error('a gate listens on a port')
  const url = new URL(target)
  url.hostname = '127.0.0.1'
  // Not by the server's own socket, past us.
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
