import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// The relying parties of the benchmark, in one process. It answers 200 to everything and counts. To cost little, it checks
// nothing. On request it notes when the first byte of a logout arrived, or makes a group of relying parties misbehave. The group
// is the first segment of the path.

/** The behaviour of a group: answers 200, never answers, or answers 503. */
export type Behaviour = 'answer' | 'hang' | 'unavailable'

/** A logout that was answered with 200. */
export interface Stamp {
  /** The event that the token names. */
  readonly txn: string
  /** The path of the endpoint: group and client. */
  readonly path: string
  /** When the first byte arrived, in nanoseconds of the system's monotonic clock, which all processes of a machine share. */
  readonly atNs: string
  /** When the logout was answered, by the same clock. */
  readonly answeredNs: string
}

export type Question =
  | { readonly ask: 'count' | 'refuse' | 'listen' | 'stamps' }
  /** Starts or stops keeping stamps. */
  | { readonly ask: 'stamp'; readonly on: boolean }
  | { readonly ask: 'behave'; readonly group: string; readonly behaviour: Behaviour }

/** The answer to every question. */
export interface Answer {
  /** Logouts answered with 200, by group. */
  readonly counts: Readonly<Record<string, number>>
  /** Stamps since the last question for stamps; empty for other questions. */
  readonly stamps: readonly Stamp[]
}

const counts: Record<string, number> = {}
let stamping = false
let stamps: Stamp[] = []
const behaviours = new Map<string, Behaviour>()

const server = createServer((request, response) => {
  const atNs = stamping ? process.hrtime.bigint() : 0n
  const path = request.url ?? ''
  let body = ''
  request.on('data', (chunk: Buffer) => {
    if (stamping) body += chunk.toString('latin1')
  })
  request.on('end', () => {
    const group = path.slice(1, path.indexOf('/', 1))
    const behaviour = behaviours.get(group) ?? 'answer'
    if (behaviour === 'hang') return
    if (behaviour === 'unavailable') {
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

/** Behaves like a running host without the server process: refuses new connections and closes the open ones. */
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
      if (question.behaviour === 'answer') behaviours.delete(question.group)
      else behaviours.set(question.group, question.behaviour)
      break
  }
  return { counts, stamps: given }
}

process.on('message', (question: Question) => {
  void carryOut(question).then((answer) => process.send?.(answer))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port })
