import { Agent, get } from 'node:http'

// Those who wait, in a process of their own: each request over its own connection, all at once, until all are answered.

export type WaiterQuestion =
  /** Sends a request for each path, and answers once all are sent. */
  | {
      readonly ask: 'wait'
      readonly url: string
      readonly paths: readonly string[]
      readonly headers: Readonly<Record<string, string>>
    }
  /** Waits for what is still to come of them. */
  | { readonly ask: 'answers' }

/** One that was answered. */
export interface Awaited200 {
  readonly path: string
  /** When the last byte of its answer came, in nanoseconds by the clock of the receiver's stamps. */
  readonly atNs: string
  readonly bytes: number
}

/** Connections that are being opened at the same time: more than a server lets queue would be opened a second later. */
const OPENING_MAX = 100

let answers: Promise<Awaited200>[] = []
let agent = new Agent()

async function send({
  url,
  paths,
  headers,
}: Extract<WaiterQuestion, { ask: 'wait' }>): Promise<readonly Awaited200[]> {
  agent = new Agent({ keepAlive: true })
  // In their order: who waits first is first to be answered, before time is up.
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
  // Whoever asks for the answers hears of it.
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
  const given = await Promise.all(answers)
  answers = []
  agent.destroy()
  return given
}

process.on('message', (question: WaiterQuestion) => {
  const done = question.ask === 'wait' ? send(question) : collect()
  void done.then((answer) => process.send?.(answer))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
