import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// The relying parties of the benchmark, in one process: answers 200 to everything and counts. It checks nothing, so that
// it costs little. Asked to, it notes when the first byte of each logout arrived, or misbehaves: a group of relying parties
// is the first segment of their paths.

/** How a group answers: 200, never, or 503. */
export type Manner = 'answer' | 'hang' | 'unavailable'

/** A logout that was answered with 200. */
export interface Stamp {
  /** The event that the token names. */
  readonly txn: string
  /** Whom it was for: group and client. */
  readonly path: string
  /** When its first byte came, in nanoseconds by the system's monotonic clock, the same in all processes of a machine. */
  readonly atNs: string
  /** When it was answered. */
  readonly answeredNs: string
}

export type Question =
  | { readonly ask: 'count' | 'refuse' | 'listen' | 'stamps' }
  /** Begins to keep stamps, or ends it. */
  | { readonly ask: 'stamp'; readonly on: boolean }
  | { readonly ask: 'behave'; readonly group: string; readonly manner: Manner }

/** What every question is answered with. */
export interface Answer {
  /** Logouts answered with 200, by group. */
  readonly counts: Readonly<Record<string, number>>
  /** Since they were last asked for; empty where they were not. */
  readonly stamps: readonly Stamp[]
}

const counts: Record<string, number> = {}
let stamping = false
let stamps: Stamp[] = []
const manners = new Map<string, Manner>()

const server = createServer((request, response) => {
  const atNs = stamping ? process.hrtime.bigint() : 0n
  const path = request.url ?? ''
  let body = ''
  request.on('data', (chunk: Buffer) => {
    if (stamping) body += chunk.toString('latin1')
  })
  request.on('end', () => {
    const group = path.slice(1, path.indexOf('/', 1))
    const manner = manners.get(group) ?? 'answer'
    if (manner === 'hang') return
    if (manner === 'unavailable') {
      response.writeHead(503, { 'content-length': '0' }).end()
      return
    }
    counts[group] = (counts[group] ?? 0) + 1
    response.writeHead(200, { 'content-length': '0' }).end()
    if (atNs === 0n) return
    const answeredNs = String(process.hrtime.bigint())
    const payload = Buffer.from(body.split('.')[1] ?? '', 'base64url').toString('utf8')
    const { txn } = JSON.parse(payload) as { txn: string }
    stamps.push({ txn, path, atNs: String(atNs), answeredNs })
  })
})
server.keepAliveTimeout = 60_000

async function listen(port: number): Promise<number> {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** As a host that is up whose process is down: no one listens, and nothing that was open stays so. */
async function refuse(): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}

const port = await listen(Number(process.argv[2] ?? 0))

async function carryOut(question: Question): Promise<Answer> {
  let given: readonly Stamp[] = []
  switch (question.ask) {
    case 'count':
      break
    case 'refuse':
      await refuse()
      break
    case 'listen':
      await listen(port)
      break
    case 'stamp':
      stamping = question.on
      stamps = []
      break
    case 'stamps':
      given = stamps
      stamps = []
      break
    case 'behave':
      if (question.manner === 'answer') manners.delete(question.group)
      else manners.set(question.group, question.manner)
      break
  }
  return { counts, stamps: given }
}

process.on('message', (question: Question) => {
  void carryOut(question).then((answer) => process.send?.(answer))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port })
