import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { log, open } from './http-server.fixture.ts'
import { httpService } from './http-server.ts'

// Goal: a server stops without cutting off a request, and without waiting for idle connections.
// Method: real connections: one that idles, one with a request in flight.

test('a stopping server finishes requests in flight and closes idle connections', async () => {
  const other = await open()
  const held = Promise.withResolvers<void>()
  const entered = Promise.withResolvers<void>()
  other.get('/slow', { config: { scope: 'public' } }, async () => {
    entered.resolve()
    await held.promise
    return 'done'
  })
  const stopping = new AbortController()
  const listening = Promise.withResolvers<string>()
  const running = httpService(other, {
    host: '127.0.0.1',
    port: 0,
    log,
    onListening: listening.resolve,
  }).run({
    stopping: stopping.signal,
    abandoning: new AbortController().signal,
    ready: () => undefined,
  })
  const base = await listening.promise
  const idle = connect(Number(new URL(base).port), '127.0.0.1')
  await once(idle, 'connect')
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const slow = get(`${base}/slow`, agent)
  await entered.promise

  const closing = once(idle, 'close')
  idle.resume()
  stopping.abort()
  await closing
  await expect(fetch(`${base}/healthz`)).rejects.toThrow()
  held.resolve()
  expect(await slow).toEqual({ status: 200, connection: 'close', body: 'done' })
  await running
  agent.destroy()
})

test('an abandoning server cuts requests in flight', async () => {
  const other = await open()
  const entered = Promise.withResolvers<void>()
  other.get('/stuck', { config: { scope: 'public' } }, () => {
    entered.resolve()
    return Promise.withResolvers<never>().promise
  })
  const stopping = new AbortController()
  const abandoning = new AbortController()
  const listening = Promise.withResolvers<string>()
  const running = httpService(other, {
    host: '127.0.0.1',
    port: 0,
    log,
    onListening: listening.resolve,
  }).run({
    stopping: stopping.signal,
    abandoning: abandoning.signal,
    ready: () => undefined,
  })
  const stuck = fetch(`${await listening.promise}/stuck`)
  await entered.promise
  stopping.abort()
  abandoning.abort()
  await expect(stuck).rejects.toThrow()
  await running
})

test('a server whose port is in use rejects', async () => {
  const taken = await open()
  const other = await open()
  const port = Number(new URL(await taken.listen({ host: '127.0.0.1', port: 0 })).port)
  const context = { stopping: new AbortController().signal, abandoning: new AbortController().signal }
  await expect(
    httpService(other, { host: '127.0.0.1', port, log }).run({ ...context, ready: () => undefined }),
  ).rejects.toThrow('EADDRINUSE')
  await taken.close()
  await other.close()
})

function get(target: string, agent: Agent): Promise<{ status: unknown; connection: unknown; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<typeof get>>>()
  httpRequest(target, { agent }, async (response) => {
    let body = ''
    for await (const chunk of response) body += String(chunk)
    resolve({ status: response.statusCode, connection: response.headers.connection, body })
  })
    .on('error', reject)
    .end()
  return promise
}
