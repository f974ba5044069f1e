import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

// The bare limit of waiting: a server that holds every request until it is asked to answer all of them. It has no ledger, no
// notifications and nothing to look up.

/** Asks for the number of held requests, or for answers to all of them with a body of `bytes` bytes. */
export type HeldQuestion = { readonly ask: 'held' } | { readonly ask: 'release'; readonly bytes: number }

export interface HeldAnswer {
  readonly held: number
  /** When the question arrived, in nanoseconds of the system's monotonic clock. */
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
