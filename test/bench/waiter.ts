import { Agent, get } from 'node:http'

// A process of waiting clients. Every request has its own connection, and all wait at the same time until they are answered.

export type WaiterQuestion =
  /** Sends a request for every path, and answers once all are sent. */
  | {
      readonly ask: 'wait'
      readonly url: string
      readonly paths: readonly string[]
      readonly headers: Readonly<Record<string, string>>
    }
  /** Waits for the remaining answers. */
  | { readonly ask: 'answers' }

/** A request that was answered with 200. */
export interface Awaited200 {
  readonly path: string
  /** When the last byte of the answer arrived, in nanoseconds of the clock of the receiver's stamps. */
  readonly atNs: string
  readonly bytes: number
}

/** Connections opened at the same time. Connections beyond the server's backlog would open a second later. */
const OPENING_MAX = 100

let answers: Promise<Awaited200>[] = []
let agent = new Agent()

async function send({
  url,
  paths,
  headers,
}: Extract<WaiterQuestion, { ask: 'wait' }>): Promise<readonly Awaited200[]> {
  agent = new Agent({ keepAlive: true })
  // In order, because the first requests are the first to be answered, before their time is up.
  const left = paths.values()
  const sendNext = async () => {
    for (const path of left) {
      const sent = Promise.withResolvers<void>()
      answers.push(one(new URL(path, url), headers, sent.resolve))
      await sent.promise
    }
  }
  await Promise.all(Array.from({ length: OPENING_MAX }, sendNext))
  return []
}

function one(url: URL, headers: Readonly<Record<string, string>>, onSent: () => void): Promise<Awaited200> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited200>()
  // `collect` reports the failure.
  promise.catch(onSent)
  const request = get(url, { agent, headers }, (response) => {
    let bytes = 0
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    response.on('end', () => {
      const atNs = String(process.hrtime.bigint())
      if (response.statusCode === 200) resolve({ path: url.pathname, atNs, bytes })
      else reject(new Error(`${url.pathname} was answered with ${response.statusCode}`))
    })
  })
  request.on('error', reject)
  request.on('finish', onSent)
  return promise
}

async function collect(): Promise<readonly Awaited200[]> {
  const collected = await Promise.all(answers)
  answers = []
  agent.destroy()
  return collected
}

process.on('message', (question: WaiterQuestion) => {
  const done = question.ask === 'wait' ? send(question) : collect()
  void done.then((answer) => process.send?.(answer))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
