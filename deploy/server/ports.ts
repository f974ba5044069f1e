import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the range from which systems assign ports to outgoing connections and to servers that ask for any port. */
const FROM = 20_000
const TO = 32_000

/**
 * Finds a free port of loopback for a server that must come back at the same address. The system does not assign ports of
 * this range by itself, so no other process gets the port by chance while the server is stopped.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FROM, TO)
    const server = createServer().listen(port, '127.0.0.1')
    try {
      await once(server, 'listening')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') continue
      throw error
    }
    server.close()
    await once(server, 'close')
    return port
  }
}
