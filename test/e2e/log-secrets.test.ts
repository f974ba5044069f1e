import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createKafkaEventLog } from '@curfew/broker'
import { type Client, createClient } from '@curfew/client'
import type { EventLog } from '@curfew/domain'
import { createDatabase, createPostgresEventLog } from '@curfew/ledger'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka, smallTopics, uniquePrefix } from '../support/kafka.ts'
import { startStandalone, type TestProcess, useProcesses } from '../support/processes.ts'

// Goal: whatever IdPs, RPs, receivers of webhooks and attackers do, the log has no secret and no person, at no level.
// Method: a whole run of real processes at `debug`, with values that are random and so found wherever they are.

const processes = useProcesses()
const ISS = 'https://idp.example'
const START_MS = 120_000
const patiently = { timeout: 120_000, interval: 100 }
const random = (what: string) => `${what}${randomBytes(9).toString('hex')}`
/** The same without digits, as a code of an error would be. */
const randomWord = () => Array.from(randomBytes(12), (byte) => String.fromCharCode(97 + (byte % 26))).join('')

/** A running Curfew of one or several processes. */
interface Running {
  readonly processes: readonly TestProcess[]
  readonly ingest: string
  readonly client: Client
  /** Of ingest, which answers about events. */
  readonly events: Client
  readonly adminKey: string
  readonly eventLog: EventLog
  /** Passwords and keys of the deployment. */
  readonly secrets: readonly string[]
}

/** Endpoints that answer by their path, and repeat what they received. */
async function openHosts() {
  const tokens: string[] = []
  const counts = new Map<string, number>()
  let said = ''
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const [path = ''] = (request.url ?? '').slice(1).split('?')
    counts.set(path, (counts.get(path) ?? 0) + 1)
    const token = new URLSearchParams(body).get('logout_token')
    const bearer = request.headers.authorization?.replace(/^\w+ /, '')
    for (const each of [token, bearer]) if (each != null) tokens.push(each)
    const echo = `${said} ${token} ${bearer} ${body}`
    const json = (status: number, value: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    if (path === 'ok') response.writeHead(200, { 'set-cookie': said }).end(echo)
    else if (path === 'code') json(400, { error: said.split(' ')[0], error_description: echo })
    else if (path === 'token') json(400, { error: token, error_description: said })
    else if (path === 'page') response.writeHead(500).end(`<html>${echo}</html>`)
    else if (path === 'login')
      response.writeHead(302, { location: `/in/${said.split(' ')[0]}?t=${token}` }).end()
    else if (path === 'reset') request.socket.destroy()
    else response.writeHead(500).end(echo)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return {
    at: (path: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}`,
    tokens,
    count: (path: string) => counts.get(path) ?? 0,
    /** Sets the text that answers repeat beside the request. */
    say(text: string) {
      said = text
    },
  }
}

/** Does all that could bring a secret or a person into a log. @returns the values that must not be in it. */
async function misbehave({
  client,
  events,
  ingest,
  adminKey,
  eventLog,
}: Running): Promise<readonly string[]> {
  const hosts = await openHosts()
  const person = {
    ...{ sub: randomWord(), sid: random('sid-'), email: `${random('mail')}@corp.example` },
  }
  const cookie = random('session=')
  const inQuery = random('query-')
  hosts.say([person.sub, person.sid, person.email, cookie].join(' '))

  await client.putIssuer('main', { iss: ISS })
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'mine', alg: 'ES256' }
  await client.addKey('main', { jwk } as never)
  const quick = { retry_schedule_ms: [1_000], timeout_ms: 2_000 }
  const paths = ['ok', 'code', 'token', 'page', 'login', 'reset']
  for (const path of paths) {
    await client.putRelyingParty('main', path, {
      id_token_signed_response_alg: 'ES256',
      backchannel_logout_uri: `${hosts.at(path)}?secret=${inQuery}`,
      curfew: quick,
    })
  }
  const clientSecret = random('client-secret-')
  await client.putRelyingParty('main', 'revoker', {
    id_token_signed_response_alg: 'ES256',
    curfew: {
      ...quick,
      channels: {
        global_revocation: {
          ...{ uri: hosts.at('revoke'), credential: 'bearer', secret: clientSecret, subject: 'email' },
        },
      },
    },
  } as never)
  const refreshToken = random('refresh-token-')
  await client.putRelyingParty('main', 'tokens', {
    curfew: {
      ...quick,
      channels: { revocation: { revocation_endpoint: hosts.at('tokens'), secret: clientSecret } },
    },
  } as never)
  const webhook = await client.putWebhook('hook', { url: `${hosts.at('hook')}?secret=${inQuery}` })
  const bound = await client.createApiKey({ name: 'idp', scopes: ['events:write'] } as never)

  await events.postSession({ iss: ISS, ...person, client_id: 'ok', expires_at: null })
  const revocation = [{ token: refreshToken }]
  await events.postSession({ iss: ISS, ...person, client_id: 'tokens', expires_at: null, revocation })
  await events
    .postSession({ iss: ISS, ...person, client_id: 'tokens', revocation } as never)
    .catch(() => undefined)
  await expect
    .poll(async () => (await client.listSessions({ iss: ISS, sub: person.sub })).items.length, patiently)
    .toBe(2)
  const { id } = await events.postLogoutEvent({ iss: ISS, ...person })
  await events.postLogoutEvent({ iss: ISS, sub: person.sub, email: person.email })

  // The same id with other content, and records that cannot be planned.
  await events.postLogoutEvent({ id, iss: ISS, sub: `${person.sub}x` }).catch(() => undefined)
  const bad = (value: string) => ({
    ...{ lane: 'interactive' as const, key: person.sub, headers: {}, value: Buffer.from(value) },
  })
  await eventLog.append([
    bad(`{"id":"${person.sub}`),
    bad(JSON.stringify({ id: randomUUID(), iss: ISS, sub: `${person.sub}\0`, email: person.email })),
    bad(JSON.stringify({ id: person.sid, iss: ISS, sub: person.sub, [person.email]: 1 })),
  ])

  // Secrets in wrong places.
  const call = (path: string, init: RequestInit = {}) =>
    fetch(new URL(path, ingest), { redirect: 'manual', ...init }).then((response) => response.text())
  const wrongKey = `cfw_${randomBytes(32).toString('base64url')}`
  const json = { 'content-type': 'application/json', cookie }
  const forged = [{ alg: 'ES256' }, { iss: ISS, ...person, aud: 'ok' }, { s: 1 }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  await call(`/v1/logout-events/${id}?access_token=${adminKey}&sub=${person.sub}`)
  await call(`/v1/logout-events/${adminKey}`, { headers: { authorization: `Bearer ${wrongKey}` } })
  await call('/v1/logout-events', { headers: { authorization: `Basic ${adminKey}` } })
  for (const body of [
    JSON.stringify({ iss: ISS, sub: person.sub, [person.sid]: forged }),
    `{"sub":"${person.sub}","key":"${adminKey}`,
    JSON.stringify({ iss: person.email, sub: person.sub }),
  ]) {
    const headers = { ...json, authorization: `Bearer ${adminKey}` }
    await call('/v1/logout-events', { method: 'POST', headers, body })
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const token = `logout_token=${forged}`
  await call(`/relay/main/ok?${token}`, { method: 'POST', headers: form, body: token })

  await expect.poll(() => paths.filter((path) => hosts.count(path) === 0), patiently).toEqual([])
  await expect.poll(() => hosts.count('revoke'), patiently).toBeGreaterThan(0)
  await expect.poll(() => hosts.count('tokens'), patiently).toBeGreaterThan(0)
  await expect
    .poll(async () => (await client.listDeadLetters()).items.map((dead) => dead.client_id), patiently)
    .toEqual(expect.arrayContaining(['revoker']))
  await expect.poll(async () => (await client.listQuarantined()).items.length, patiently).toBeGreaterThan(1)
  await expect.poll(() => hosts.count('hook'), patiently).toBeGreaterThan(0)
  await client.eraseSubject('main', person.sub, { abandon: true, email: person.email })

  return [
    ...Object.values(person),
    ...[adminKey, wrongKey, String(bound.key), String(webhook.secret), clientSecret, refreshToken],
    ...[cookie, inQuery, String(jwk.d), forged],
    ...hosts.tokens.flatMap((each) => [each, each.split('.').at(-1) ?? each]),
  ]
}

/** Lets Curfew meet everything, stops it, and searches all of its output. */
async function search(running: Running): Promise<void> {
  const values = await misbehave(running)
  for (const process of running.processes) process.signal('SIGTERM')
  for (const process of running.processes) await process.exit(60_000)
  await running.eventLog.close()
  const output = running.processes.map(({ stdout, stderr }) => stdout + stderr).join('')
  const events = new Set(output.match(/(?<="event":")[^"]+/g))
  expect([...events]).toEqual(
    expect.arrayContaining([
      ...[
        'process.started',
        'process.stopped',
        'delivery.attempted',
        'event.quarantined',
        'webhook.attempted',
      ],
    ]),
  )
  const found = [...new Set([...values, ...running.secrets])]
    .filter((value) => value.length >= 8)
    .flatMap((value) => output.split('\n').filter((line) => line.includes(value)))
  expect(found).toEqual([])
}

const passwordOf = (databaseUrl: string) => decodeURIComponent(new URL(databaseUrl).password)

test('the log of standalone has no secret and no person', { timeout: 600_000 }, async () => {
  const dataFolder = await processes.dataFolder()
  const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8', LOG_LEVEL: 'debug' }
  await using database = await createTestDatabase()
  const db = createDatabase(database.url)
  onTestFinished(() => db.end())
  const { process, url, adminKey, client } = await startStandalone(processes, {
    ...{ dataFolder, timeoutMs: START_MS },
    env: { ...env, DATABASE_URL: database.url },
  })
  await search({
    ...{ processes: [process], ingest: url, client, events: client, adminKey: adminKey ?? '' },
    eventLog: createPostgresEventLog({ db, url: database.url }),
    secrets: [
      passwordOf(database.url),
      readFileSync(join(dataFolder, 'master-key'), 'utf8').trim(),
      readFileSync(join(dataFolder, 'admin-key.sha256'), 'utf8').trim(),
    ],
  })
})

async function searchServices(kafka: readonly string[] | null): Promise<void> {
  await using database = await createTestDatabase()
  const adminKey = `cfw_${randomBytes(32).toString('base64url')}`
  const masterKey = randomBytes(32).toString('base64url')
  const prefix = uniquePrefix()
  const services = (['ingest', 'console', 'delivery', 'bookkeeper'] as const).map((role) =>
    processes.start({
      name: role,
      file: `services/${role}/src/main.ts`,
      env: {
        ...{ DATABASE_URL: database.url, PORT: '0', HOST: '127.0.0.1', LOG_LEVEL: 'debug' },
        ...{ CURFEW_ADMIN_KEY: adminKey, CURFEW_MASTER_KEY: masterKey },
        CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
        ...(kafka !== null && {
          ...{ KAFKA_BROKERS: kafka.join(','), KAFKA_TOPIC_PREFIX: prefix, KAFKA_REPLICATION_FACTOR: '1' },
        }),
      },
    }),
  )
  const [ingest = '', console = ''] = await Promise.all(
    services.map(async (service) => {
      const [, url = ''] = await service.says(/server\.listening","url":"([^"]+)/, START_MS)
      await service.says(/"process\.ready"/, START_MS)
      return url
    }),
  )
  const db = createDatabase(database.url)
  onTestFinished(() => db.end())
  const eventLog =
    kafka === null
      ? createPostgresEventLog({ db, url: database.url })
      : createKafkaEventLog({
          ...{ brokers: kafka, clientId: 'test', groupId: `${prefix}test`, appendTimeoutMs: 30_000 },
          topics: smallTopics(prefix),
          quarantine: async () => undefined,
        })
  await search({
    ...{ processes: services, ingest, eventLog, adminKey },
    client: createClient({ url: console, key: adminKey }),
    events: createClient({ url: ingest, key: adminKey }),
    secrets: [masterKey, passwordOf(database.url)],
  })
}

describe('the logs of the four services have no secret and no person', () => {
  test('over PostgreSQL', { timeout: 600_000 }, () => searchServices(null))
})

await describeWithKafka('the logs of the four services over Kafka', (brokers) => {
  test('have no secret and no person', { timeout: 600_000 }, () => searchServices(brokers))
})
