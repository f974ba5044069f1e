import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  createOutbox,
  type Outbox,
  OutboxNotDrainedError,
  type OutboxOptions,
  OutboxRetryError,
  SpoolFullError,
} from './outbox.ts'

// Goal: a posted event is posted until Curfew has accepted it, always as the same event.
// Method: a real HTTP server that answers as the test says; real directories. `test/e2e/outbox.test.ts` has the real Curfew.

interface Event {
  readonly id: string
  readonly sub: string
  readonly occurred_at?: string
  readonly lane?: string
}
interface Request {
  readonly key: string | undefined
  readonly atMs: number
  readonly events: readonly Event[]
}
/** Answers a request. Undefined: the events are accepted. */
type Answer = (request: Request, response: ServerResponse) => unknown

const ISS = 'https://idp.example'
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
let directory: string
let server: Server
let url: string
let requests: Request[]
let answers: Answer[]
/** The answer after those in `answers`. */
let usual: Answer
let errors: Error[]
let rejected: [string | undefined, number][]
const opened: Outbox[] = []

beforeEach(async () => {
  ;[requests, answers, errors, rejected] = [[], [], [], []]
  usual = () => undefined
  directory = await mkdtemp(join(tmpdir(), 'curfew-outbox-'))
  server = createServer(async (incoming, response) => {
    let body = ''
    for await (const chunk of incoming) body += chunk
    const events = JSON.parse(body) as Event[]
    const request = { key: incoming.headers.authorization, atMs: performance.now(), events }
    requests.push(request)
    const answer = answers.shift() ?? usual
    if (answer(request, response) === undefined) answerJson(response, 202, events.map(accepted))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((outbox) => outbox.close()))
  server.close()
  server.closeAllConnections()
  await rm(directory, { recursive: true, force: true })
})

const accepted = ({ id }: Event) => ({ id, status: 'accepted' })
const problem = (status: number, ...pointers: string[]) => ({
  ...{ type: 'about:blank', title: 'Refused', status, detail: 'Refused.' },
  ...(pointers.length > 0 && { errors: pointers.map((pointer) => ({ pointer, detail: 'is wrong' })) }),
})
const refused = (status: number, ...pointers: string[]) => ({
  status: 'rejected',
  problem: problem(status, ...pointers),
})
function answerJson(response: ServerResponse, status: number, body: unknown, headers = {}): true {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
  return true
}
const status =
  (code: number, headers = {}): Answer =>
  (_request, response) =>
    answerJson(response, code, problem(code), headers)

async function open(options: Partial<OutboxOptions> = {}): Promise<Outbox> {
  const outbox = await createOutbox({
    ...{ url, key: 'cfw_1', directory },
    onError: (error) => errors.push(error),
    onRejected: ({ sub }, { status: code }) => rejected.push([sub, code]),
    ...options,
  })
  opened.push(outbox)
  return outbox
}
const postAll = (outbox: Outbox, ...subs: string[]) =>
  Promise.all(subs.map((sub) => outbox.post({ iss: ISS, sub })))
const subsOf = ({ events }: Request) => events.map(({ sub }) => sub)
/** Posts events while the answer to an earlier one is held, so that the second request has them all. */
async function together(outbox: Outbox, ...subs: string[]): Promise<void> {
  let release: () => void = () => undefined
  answers.unshift(({ events }, response) => {
    release = () => answerJson(response, 202, events.map(accepted))
    return true
  })
  await postAll(outbox, 'first')
  await expect.poll(() => requests.length).toBe(1)
  await postAll(outbox, ...subs)
  release()
  await outbox.drain()
}
const rejectedLines = async () =>
  (await readFile(join(directory, 'rejected'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: Event; problem: { status: number } })

describe('post', () => {
  test('gives the event an id and its time, and resolves without an answer of Curfew', async () => {
    usual = () => true
    const outbox = await open()
    const { id } = await outbox.post({ iss: ISS, sub: 'ann' })
    expect(id).toMatch(UUID_V7)
    await expect.poll(() => requests.length).toBe(1)
    const [event] = requests[0]?.events ?? []
    expect(event).toEqual({ iss: ISS, sub: 'ann', id, occurred_at: expect.stringMatching(/^20.*Z$/) })
    server.closeAllConnections()
  })

  test('keeps the id and the time that the event has', async () => {
    const outbox = await open()
    const event = { iss: ISS, sub: 'ann', id: crypto.randomUUID(), occurred_at: '2026-01-01T00:00:00Z' }
    expect(await outbox.post(event)).toEqual({ id: event.id })
    await outbox.drain()
    expect(requests.map(({ events }) => events)).toEqual([[event]])
  })

  test('sends events that wait in one request, oldest first', async () => {
    const outbox = await open()
    const subs = Array.from({ length: 1_500 }, (_, index) => `${index}`)
    await together(outbox, ...subs)
    expect(requests.map(({ events }) => events.length)).toEqual([1, 1_000, 500])
    expect(requests.flatMap(subsOf)).toEqual(['first', ...subs])
  })

  test('rejects while too many events wait, and accepts events again afterwards', async () => {
    usual = status(503)
    const outbox = await open({ bytesMax: 300 })
    await postAll(outbox, 'ann')
    await expect.poll(() => errors.length).toBe(1)
    await expect(postAll(outbox, 'bob')).rejects.toBeInstanceOf(SpoolFullError)
    usual = () => undefined
    await outbox.drain()
    await postAll(outbox, 'bob')
    await outbox.drain()
    expect(subsOf(requests.at(-1) as Request)).toEqual(['bob'])
  })

  test('posts at once what the disk does not take', async () => {
    const outbox = await open({ bytesMax: 1 })
    await postAll(outbox, 'ann')
    expect(requests.map(subsOf)).toEqual([['ann']])
    usual = status(503)
    await expect(postAll(outbox, 'bob')).rejects.toBeInstanceOf(SpoolFullError)
    usual = ({ events }, response) =>
      answerJson(
        response,
        207,
        events.map(() => refused(400, '/0/sub')),
      )
    await expect(postAll(outbox, 'eve')).rejects.toMatchObject({ status: 400 })
  })
})

describe('the outbox posts the same event again', () => {
  test.each<[string, Answer, RegExp]>([
    ['a 503', status(503), /Curfew answered 503: Refused\./],
    ['a 429', status(429), /Curfew answered 429/],
    ['a 401', status(401), /Curfew answered 401/],
    ['a 403 without a member of the event', status(403), /Curfew answered 403/],
    ['a reset connection', (_request, response) => response.socket?.resetAndDestroy(), /ECONNRESET/],
    ['no answer in time', () => true, /timeout/],
    [
      'half an answer',
      (_request, response) => response.writeHead(202, { 'content-length': 100 }).write('['),
      /timeout/,
    ],
    ['the page of a proxy', (_, response) => response.writeHead(403).end('<html>'), /answered 403: HTTP 403/],
    ['a page with status 200', (_, response) => response.writeHead(200).end('<html>'), /interactive: .*JSON/],
    ['another JSON', (_, response) => answerJson(response, 200, { ok: true }), /not from Curfew/],
  ])('after %s', async (_name, answer, message) => {
    answers = [
      (request, response) => {
        answer(request, response)
        return true
      },
    ]
    const outbox = await open({ timeoutMs: 300 })
    await postAll(outbox, 'ann')
    await expect.poll(() => requests.length).toBe(2)
    await outbox.drain()
    expect(requests[1]?.events).toEqual(requests[0]?.events)
    expect(errors).toEqual([expect.any(OutboxRetryError)])
    expect(errors[0]?.message).toMatch(/did not take the logout events in .*interactive: .* 1 of them wait/)
    expect(errors[0]?.message).toMatch(message)
    expect([rejected, outbox.size()]).toEqual([[], { entries: 0, bytes: 0 }])
  })

  test('not before Retry-After, also if drain is called', async () => {
    answers = [status(503, { 'retry-after': '1' })]
    const outbox = await open()
    await postAll(outbox, 'ann')
    await expect.poll(() => errors.length).toBe(1)
    await outbox.drain()
    const [first, second] = requests
    expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(990)
  })

  test('with the key of that time', async () => {
    answers = [status(401)]
    let key = 'cfw_old'
    const outbox = await open({ key: () => key })
    await postAll(outbox, 'ann')
    await expect.poll(() => errors.length).toBe(1)
    key = 'cfw_new'
    await outbox.drain()
    expect(requests.map((request) => request.key)).toEqual(['Bearer cfw_old', 'Bearer cfw_new'])
  })

  test('in the next process, if this one is closed before', async () => {
    usual = status(503)
    const first = await open()
    const [{ id } = { id: '' }] = await postAll(first, 'ann')
    await expect.poll(() => errors.length).toBe(1)
    await first.close()
    usual = () => undefined
    const second = await open()
    await second.drain()
    expect(requests.at(-1)?.events.map((event) => event.id)).toEqual([id])
  })
})

describe('an event that Curfew refuses', () => {
  test('goes to the file of rejected events, and the others of its array are accepted', async () => {
    const outbox = await open()
    answers = [
      ({ events }, response) =>
        answerJson(
          response,
          207,
          events.map((event) => (event.sub === 'bad' ? refused(409, '/0/id') : accepted(event))),
        ),
    ]
    await together(outbox, 'bad', 'good')
    expect(requests.slice(1).map(subsOf)).toEqual([['bad', 'good']])
    expect(rejected).toEqual([['bad', 409]])
    expect(await rejectedLines()).toMatchObject([{ event: { sub: 'bad' }, problem: { status: 409 } }])
  })

  test('is found by itself, if the array is refused as a whole', async () => {
    const outbox = await open()
    usual = ({ events }, response) =>
      events.every(({ sub }) => sub !== 'good') ? answerJson(response, 400, problem(400, '/sub')) : undefined
    answers = [(_, response) => answerJson(response, 400, problem(400, '/0/sub'))]
    await together(outbox, 'good', 'bad')
    expect(requests.slice(1).map(subsOf)).toEqual([['good', 'bad'], ['good'], ['bad']])
    expect(rejected).toEqual([['bad', 400]])
  })

  test('is halved out of an array that is too large, also for a proxy', async () => {
    const outbox = await open()
    usual = ({ events }, response) => (events.length > 2 ? response.writeHead(413).end('<html>') : undefined)
    await together(outbox, 'a', 'b', 'c')
    expect(requests.slice(1).map(subsOf)).toEqual([['a', 'b', 'c'], ['a', 'b'], ['c']])
    expect(rejected).toEqual([])
  })

  test('for now is posted again alone, while rejected and accepted events of its array are done', async () => {
    const outbox = await open()
    answers = [
      ({ events }, response) =>
        answerJson(
          response,
          207,
          events.map((event) =>
            event.sub === 'bad'
              ? refused(400, '/0/sub')
              : event.sub === 'later'
                ? refused(429)
                : accepted(event),
          ),
        ),
    ]
    await together(outbox, 'bad', 'later')
    expect(requests.slice(1).map(subsOf)).toEqual([['bad', 'later'], ['later']])
    expect(rejected).toEqual([['bad', 400]])
    expect(await rejectedLines()).toHaveLength(1)
  })

  test('only for its time is posted without the time that the outbox has set', async () => {
    const outbox = await open()
    usual = ({ events: [event] }, response) =>
      event?.occurred_at !== undefined ? answerJson(response, 400, problem(400, '/0/occurred_at')) : undefined
    await postAll(outbox, 'ann')
    await outbox.post({ iss: ISS, sub: 'bob', occurred_at: '2999-01-01T00:00:00Z' })
    await outbox.drain()
    const last = requests.findLast(({ events }) => events[0]?.sub === 'ann')
    expect(last?.events).toEqual([{ iss: ISS, sub: 'ann', id: expect.stringMatching(UUID_V7) }])
    expect(rejected).toEqual([['bob', 400]])
  })

  test('is reported to onError by default, with the file and the reason', async () => {
    usual = (_, response) => answerJson(response, 400, problem(400, '/0/sub'))
    const outbox = await createOutbox({ url, key: 'k', directory, onError: (error) => errors.push(error) })
    opened.push(outbox)
    const { id } = await outbox.post({ iss: ISS, sub: 'ann' })
    await outbox.drain()
    expect(errors.map(({ message }) => message)).toEqual([
      `Curfew refuses the logout event ${id}: /0/sub is wrong. No relying party is notified. The event is in ${join(directory, 'rejected')}: correct it and post it again.`,
    ])
  })

  test('does not stop the outbox, if onRejected throws', async () => {
    answers = [(_, response) => answerJson(response, 400, problem(400, '/0/sub'))]
    const outbox = await open({
      onRejected() {
        throw new Error('a bug of the user')
      },
    })
    await postAll(outbox, 'ann')
    await outbox.drain()
    await postAll(outbox, 'bob')
    await outbox.drain()
    expect(requests.map(subsOf)).toEqual([['ann'], ['bob']])
    expect(errors.map(({ message }) => message)).toEqual(['a bug of the user'])
  })
})

test('bulk events that Curfew defers delay no other event', async () => {
  usual = ({ events }, response) =>
    events.some(({ lane }) => lane === 'bulk') ? answerJson(response, 429, problem(429)) : undefined
  const outbox = await open()
  await outbox.post({ iss: ISS, sub: 'mass', lane: 'bulk' })
  await expect.poll(() => errors.length).toBe(1)
  await postAll(outbox, 'ann')
  await expect.poll(() => requests.map(subsOf)).toContainEqual(['ann'])
  expect(outbox.size().entries).toBe(1)
})

describe('drain and close', () => {
  test('drain rejects after its time with the number of events that wait', async () => {
    usual = status(503)
    const outbox = await open()
    await postAll(outbox, 'ann', 'bob')
    const late = outbox.drain(50)
    await expect(late).rejects.toBeInstanceOf(OutboxNotDrainedError)
    await expect(late).rejects.toThrow(/still wait in .* after 50 ms: 2\./)
    expect(outbox.size().entries).toBe(2)
  })

  test('drain of an empty outbox resolves', async () => {
    await (await open()).drain(1_000)
    expect(requests).toEqual([])
  })

  test('close lets the request under way end, ends drain, and the outbox takes no more events', async () => {
    const outbox = await open()
    let answer: () => void = () => undefined
    usual = ({ events }, response) => {
      answer = () => answerJson(response, 202, events.map(accepted))
      return true
    }
    await postAll(outbox, 'ann')
    await expect.poll(() => requests.length).toBe(1)
    await postAll(outbox, 'bob')
    const drained = outbox.drain()
    const refusal = expect(drained).rejects.toThrow('The outbox is closed')
    const closed = outbox.close()
    answer()
    await closed
    await refusal
    expect(outbox.size().entries).toBe(1)
    await expect(postAll(outbox, 'eve')).rejects.toThrow('The outbox is closed')
    expect(errors).toEqual([])
  })
})
