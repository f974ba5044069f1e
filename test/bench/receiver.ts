import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// The relying parties of the benchmark, in one process: answers 200 to everything and counts. It checks nothing, so that
// it costs little; asked to, it notes when the first byte of each logout arrived.

interface Stamp {
  /** The event that the token names. */
  readonly txn: string
  /** Nanoseconds by the system's monotonic clock, the same in all processes of a machine. */
  readonly atNs: string
}

let count = 0
let stamping = false
let stamps: Stamp[] = []

const server = createServer((request, response) => {
  const atNs = stamping ? process.hrtime.bigint() : 0n
  let body = ''
  request.on('data', (chunk: Buffer) => {
    if (stamping) body += chunk.toString('latin1')
  })
  request.on('end', () => {
    count += 1
    response.writeHead(200, { 'content-length': '0' }).end()
    if (!stamping) return
    const payload = Buffer.from(body.split('.')[1] ?? '', 'base64url').toString('utf8')
    const { txn } = JSON.parse(payload) as { txn: string }
    stamps.push({ txn, atNs: String(atNs) })
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))

process.on('message', (asked: 'count' | 'stamp' | 'stamps') => {
  if (asked === 'stamp') stamping = true
  process.send?.({ count, stamps: asked === 'stamps' ? stamps : [] })
  if (asked === 'stamps') stamps = []
})
process.on('disconnect', () => process.exit(0))
