import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from '@curfew/client'
import type { LogoutEventStatus } from '@curfew/contract'
import { createIngest } from '@curfew/ingest'
import { createDatabase } from '@curfew/ledger'
import { createGuardedClient } from '@curfew/outbound'
import {
  adminKey,
  createApiKeyAuthenticator,
  createHttpServer,
  createLog,
  createMetrics,
  hashApiKey,
  httpService,
} from '@curfew/runtime'
import { createRelayedTokens } from '@curfew/wiring'
import { expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: a caller that waits for a logout is answered once the last relying party has answered, at whichever process it waits.
// Method: no process polls during a test, so an answer can only come from a wake-up.

const NEVER_MS = 600_000
/** Far more than a wake-up takes, and far less than the waits here. */
const SOON_MS = 5_000
const WAIT_S = 30

/** Starts one more API process with its own connections. */
async function openIngest(curfew: Curfew) {
  const db = createDatabase(curfew.gate.url, { poolMax: 4 })
  const log = createLog({ service: 'test', level: 'silent' })
  const metrics = createMetrics()
  const server = await createHttpServer({
    title: 'Curfew ingest',
    log,
    metrics,
    authenticate: createApiKeyAuthenticator([adminKey('admin', hashApiKey(curfew.adminKey))]),
    checks: {},
  })
  const client = createGuardedClient({ allowedNetworks: [] })
  const services = createIngest({
    server,
    eventLog: curfew.eventLog,
    db,
    databaseUrl: curfew.gate.url,
    tokens: createRelayedTokens({ client, log, now: () => new Date() }),
    spool: null,
    sealTokens: null,
    log,
    metrics,
    backlogMax: null,
    waitPollMs: NEVER_MS,
  })
  const { promise: listening, resolve: onListening } = Promise.withResolvers<string>()
  const stopping = new AbortController()
  const { signal } = stopping
  const http = httpService(server, { host: '127.0.0.1', port: 0, log, onListening })
  const running = [...services, http].map((service) =>
    service.run({ stopping: signal, abandoning: new AbortController().signal, ready: () => undefined }),
  )
  const url = await listening
  const stop = async () => {
    stopping.abort()
    await Promise.all(running)
    await client.close()
    await db.end()
  }
  return {
    url,
    client: createClient({ url, key: curfew.adminKey }),
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

/** A relying party that answers when the test says so or, if it is not `patient`, at once. */
async function openPatientRp(curfew: Curfew, clientId: string, { patient = true } = {}) {
  const held: ServerResponse[] = []
  const server = createServer((request, response) => {
    request.resume()
    if (patient) held.push(response)
    else response.writeHead(200).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  await curfew.client.putRelyingParty(ISSUER, clientId, {
    backchannel_logout_uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`,
  })
  return {
    held,
    asked: () => eventually(() => expect(held.length).toBeGreaterThan(0)),
    answer() {
      for (const response of held.splice(0)) response.writeHead(200).end()
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function waitersAt(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^curfew_waiters (\d+)/m.exec(text)?.[1])
}
const waiting = (url: string, count: number) =>
  eventually(async () => expect(await waitersAt(url)).toBe(count))
const listeners = async (curfew: Curfew) => {
  const { rows } = await curfew.db.query<{ pid: number }>(
    "select pid from pg_stat_activity where application_name = 'curfew waiters' and datname = current_database()",
  )
  return rows.map(({ pid }) => pid)
}
const listening = (curfew: Curfew, count: number) =>
  eventually(async () => expect(await listeners(curfew)).toHaveLength(count))

async function soon<Answer>(answer: Promise<Answer>): Promise<Answer> {
  const startedMs = performance.now()
  const given = await answer
  expect(performance.now() - startedMs).toBeLessThan(SOON_MS)
  return given
}

test('every waiting caller is answered when the last relying party has answered, at whichever process it waits', async () => {
  await using curfew = await openCurfew({ waitPollMs: NEVER_MS })
  await using second = await openIngest(curfew)
  await using patient = await openPatientRp(curfew, 'patient')
  await using other = await openRelyingParty(curfew, { clientId: 'other' })
  await listening(curfew, 2)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const answers = [curfew.client, second.client, second.client].map((client) =>
    client.getLogoutEvent(id, { wait: WAIT_S }),
  )
  await Promise.all([patient.asked(), other.told(1)])
  await Promise.all([waiting(curfew.url, 1), waiting(second.url, 2)])
  patient.answer()
  for (const answer of answers)
    expect(await soon(answer)).toMatchObject({ status: 'settled', acknowledged: 2, total: 2 })
  // A settled event is answered without a wait.
  expect(await soon(second.client.getLogoutEvent(id, { wait: WAIT_S }))).toMatchObject({ status: 'settled' })
})

test('an event without deliveries is settled as soon as it is planned', async () => {
  await using curfew = await openCurfew({ waitPollMs: NEVER_MS, workers: 0 })
  await listening(curfew, 1)
  const { id } = await curfew.client.postLogoutEvent({ iss: 'https://unregistered.example', sub: 'alice' })
  const answer = curfew.client.getLogoutEvent(id, { wait: WAIT_S })
  await waiting(curfew.url, 1)
  await curfew.startWorker()
  expect(await soon(answer)).toMatchObject({ status: 'settled', total: 0 })
})

test('a listener reconnects after PostgreSQL cuts it off, and finds what was settled meanwhile', async () => {
  await using curfew = await openCurfew({ waitPollMs: NEVER_MS })
  await using patient = await openPatientRp(curfew, 'patient')
  for (const sub of ['while it is disconnected', 'after it reconnected']) {
    await listening(curfew, 1)
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub })
    const answer = curfew.client.getLogoutEvent(id, { wait: WAIT_S })
    await patient.asked()
    await waiting(curfew.url, 1)
    const [pid] = await listeners(curfew)
    await curfew.db.query('select pg_terminate_backend($1)', [pid])
    if (sub === 'after it reconnected')
      await eventually(async () => expect(await listeners(curfew)).not.toContain(pid))
    if (sub === 'after it reconnected') await listening(curfew, 1)
    patient.answer()
    expect(await soon(answer)).toMatchObject({ status: 'settled', acknowledged: 1 })
  }
})

test('a waiter is removed when its client disconnects', async () => {
  await using curfew = await openCurfew({ workers: 0, waitPollMs: NEVER_MS })
  const { links } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const leaving = new AbortController()
  const answer = fetch(`${curfew.url}${links.self}&wait=${WAIT_S}`, {
    headers: { authorization: `Bearer ${curfew.adminKey}` },
    signal: leaving.signal,
  })
  await waiting(curfew.url, 1)
  leaving.abort()
  await expect(answer).rejects.toThrow('aborted')
  await waiting(curfew.url, 0)
})

test('a process that stops answers its waiters with the current state', async () => {
  await using curfew = await openCurfew()
  const ingest = await openIngest(curfew)
  await using patient = await openPatientRp(curfew, 'patient')
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  await patient.asked()
  const answer = ingest.client.getLogoutEvent(id, { wait: WAIT_S })
  await waiting(ingest.url, 1)
  const [given] = await soon(Promise.all([answer, ingest.stop()]))
  expect(given).toMatchObject({ status: 'in_progress', acknowledged: 0, total: 1 })
  patient.answer()
})

test('two thousand concurrent waiters get the answers to their own events', async () => {
  await using curfew = await openCurfew({ workers: 0, waitPollMs: NEVER_MS })
  await using _rp = await openPatientRp(curfew, 'rp', { patient: false })
  await listening(curfew, 1)
  const ids: string[] = []
  for (const half of ['x', 'y']) {
    const events = Array.from({ length: 1_000 }, (_, n) => ({ iss: ISS, sub: `${half}${n}` }))
    for (const { id = '' } of await curfew.client.postLogoutEvents(events)) ids.push(id)
  }
  const answers = ids.map((id) => curfew.client.getLogoutEvent(id, { wait: WAIT_S }))
  await waiting(curfew.url, ids.length)
  await curfew.startWorker()
  const given: readonly LogoutEventStatus[] = await Promise.all(answers)
  expect(given.map(({ id }) => id)).toEqual(ids)
  expect(new Set(given.map(({ status, acknowledged }) => `${status} ${acknowledged}`))).toEqual(
    new Set(['settled 1']),
  )
}, 60_000)
