import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

// The bare limit of waiting: a server that holds every request, and answers them all when it is told to. No ledger, no
// wake-up from elsewhere, nothing to look up.

/** How many it holds, or: answer all with a body of so many bytes. */
export type HeldQuestion = { readonly ask: 'held' } | { readonly ask: 'release'; readonly bytes: number }

export interface HeldAnswer {
  readonly held: number
  /** When it was told to answer them, in nanoseconds by the system's monotonic clock. */
  readonly atNs: string
}

let held: ServerResponse[] = []
const server = createServer((_request, response) => void held.push(response))
server.listen(0, '127.0.0.1')
await once(server, 'listening')

process.on('message', (question: HeldQuestion) => {
  const atNs = String(process.hrtime.bigint())
  const count = held.length
  if (question.ask === 'release') {
    const body = 'x'.repeat(question.bytes)
    const headers = { 'content-type': 'application/json', 'content-length': String(body.length) }
    for (const response of held) response.writeHead(200, headers).end(body)
    held = []
  }
  process.send?.({ held: count, atNs } satisfies HeldAnswer)
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port: (server.address() as AddressInfo).port })
