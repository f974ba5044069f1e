import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, type CurfewOptions, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { type Gate, openGate } from '../support/gate.ts'
import {
  createProviderKey,
  type IdentityProvider,
  openIdentityProvider,
  postToRelay,
} from '../support/identity-provider.ts'
import { type TestProcess, useProcesses } from '../support/processes.ts'

// Goal: an identity provider does not repeat a post, so no failure of the database, of the key set or of the process loses a token
// that was answered with 200, and few failures cause another answer.
// Method: a real database behind a gate that drops packets or connections, a real disk for the spool, and SIGKILL.

/** The longest time that identity providers wait for the endpoint of a client: Keycloak's default. */
const PATIENCE_MS = 5_000
const CLIENT = 'shop'
const processes = useProcesses()
let key: Awaited<ReturnType<typeof createProviderKey>>
beforeAll(async () => {
  key = await createProviderKey('k1')
})

async function openWorld(options: CurfewOptions = {}): Promise<{ curfew: Curfew; idp: IdentityProvider }> {
  const idp = await openIdentityProvider({ iss: ISS })
  onTestFinished(() => idp[Symbol.asyncDispose]())
  idp.keys = [key]
  const curfew = await openCurfew(options)
  onTestFinished(() => curfew.stop())
  await curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri })
  await curfew.client.putRelyingParty(ISSUER, CLIENT, {
    backchannel_logout_uri: 'https://shop.example/logout',
    curfew: { enabled: false },
  })
  return { curfew, idp }
}

async function openFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-spool-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Posts a token to the relay. @returns the answer, and how long it took. */
async function post(url: string, token: string): Promise<{ response: Response; tookMs: number }> {
  const startedMs = performance.now()
  const response = await postToRelay(url, { issuer: ISSUER, clientId: CLIENT, token })
  return { response, tookMs: performance.now() - startedMs }
}

/** Posts a token for each sid, at once. @returns the statuses. */
async function postAll(
  url: string,
  idp: IdentityProvider,
  sids: readonly string[],
): Promise<readonly number[]> {
  const answers = await Promise.all(sids.map(async (sid) => post(url, await idp.token(CLIENT, { sid }))))
  for (const { tookMs } of answers) expect(tookMs).toBeLessThan(PATIENCE_MS)
  return answers.map(({ response }) => response.status)
}

/** Waits until the ledger has exactly one event for each sid. */
async function expectEvents({ db }: Curfew, sids: readonly string[]): Promise<void> {
  await eventually(async () => {
    const { rows } = await db.query<{ sid: string }>('select sid from events order by sid')
    expect(rows.map(({ sid }) => sid)).toEqual([...sids].sort())
  })
}

async function readinessOf(url: string): Promise<unknown> {
  return (await fetch(`${url}/readyz`)).json()
}

async function metric(url: string, name: string): Promise<number> {
  // The page is limited by address.
  const text = await eventually(async () => {
    const response = await fetch(`${url}/metrics`)
    expect(response.status).toBe(200)
    return response.text()
  })
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1],
  )
}

const sidsOf = (count: number, prefix = 's') => Array.from({ length: count }, (_, n) => `${prefix}-${n}`)

describe('without the keys of the issuer', () => {
  test.each(['fail', 'hang'] as const)('a token is appended unverified (%s)', async (manner) => {
    const { curfew, idp } = await openWorld({ workers: 0 })
    idp.manner = manner
    expect(await postAll(curfew.url, idp, ['s-1'])).toEqual([200])
    const { rows } = await curfew.db.query<{ value: Buffer }>('select value from log_records')
    expect(rows.map(({ value }) => JSON.parse(value.toString('utf8')))).toMatchObject([
      { sid: 's-1', relay: { client_id: CLIENT, verified: false } },
    ])
    expect(await metric(curfew.url, 'curfew_relay_tokens_total{result="unverified"}')).toBe(1)
  })

  test('a token that is wrong without its signature is refused', async () => {
    const { curfew, idp } = await openWorld({ workers: 0 })
    idp.manner = 'fail'
    for (const change of [{ aud: 'blog' }, { iss: 'https://other.example' }, { nonce: 'n' }, { events: {} }])
      expect((await post(curfew.url, await idp.token(CLIENT, change))).response.status).toBe(400)
    expect((await curfew.db.query('select from log_records')).rowCount).toBe(0)
  })
})

describe('ING-02: without the event log', () => {
  test.each<[string, (gate: Gate) => unknown]>([
    ['that refuses connections', (gate) => gate.shut()],
    ['that does not answer', (gate) => gate.swallow()],
  ])('%s, tokens wait in the spool, and each is one logout when it is back', async (_, breakLog) => {
    const { curfew, idp } = await openWorld({ spool: { directory: await openFolder() } })
    expect(await postAll(curfew.url, idp, ['before'])).toEqual([200])
    await breakLog(curfew.gate)
    const sids = sidsOf(50)
    // The event log may still take the first token, which waits for it before it goes to the spool.
    expect(await postAll(curfew.url, idp, sids.slice(0, 1))).toEqual([200])
    expect(await postAll(curfew.url, idp, sids.slice(1))).toEqual(sids.slice(1).map(() => 200))
    expect(await metric(curfew.url, 'curfew_relay_spool_entries')).toBe(50)
    expect(await metric(curfew.url, 'curfew_relay_spool_bytes')).toBeGreaterThan(50 * 500)
    expect(await readinessOf(curfew.url)).toMatchObject({ degraded: ['spool'] })
    await curfew.gate.open()
    await expectEvents(curfew, ['before', ...sids])
    await eventually(async () => expect(await metric(curfew.url, 'curfew_relay_spool_entries')).toBe(0))
    await eventually(async () =>
      expect(await readinessOf(curfew.url)).toMatchObject({ unavailable: [], degraded: [] }),
    )
    expect(await metric(curfew.url, 'curfew_relay_spool_appended_total')).toBeGreaterThanOrEqual(50)
    expect(await metric(curfew.url, 'curfew_relay_spool_oldest_seconds')).toBe(0)
  })

  test('and without a spool, the answer is 503 and says when to repeat', async () => {
    const { curfew, idp } = await openWorld({ appendTimeoutMs: 500 })
    await curfew.gate.shut()
    const { response } = await post(curfew.url, await idp.token(CLIENT))
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('2')
    expect(await response.json()).toMatchObject({ error: 'temporarily_unavailable' })
  })

  test('and with a full spool, the answer is 503', async () => {
    const { curfew, idp } = await openWorld({
      ...{ spool: { directory: await openFolder(), bytesMax: 4_000 }, appendTimeoutMs: 500 },
    })
    await curfew.gate.shut()
    const sids = sidsOf(6)
    const statuses: number[] = []
    for (const sid of sids) statuses.push(...(await postAll(curfew.url, idp, [sid])))
    const kept = statuses.indexOf(503)
    expect(kept).toBeGreaterThan(0)
    expect(statuses.slice(kept)).toEqual(statuses.slice(kept).map(() => 503))
    await curfew.gate.open()
    await expectEvents(curfew, sids.slice(0, kept))
  })
})

describe('an ingest process', () => {
  const adminKey = `cfw_${'k'.repeat(43)}`

  async function startIngest(
    databaseUrl: string,
    spool: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ child: TestProcess; url: string }> {
    const child = processes.start({
      name: 'ingest',
      file: 'services/ingest/src/main.ts',
      env: {
        ...{ DATABASE_URL: databaseUrl, CURFEW_ADMIN_KEY: adminKey, CURFEW_SPOOL: spool },
        ...{ HOST: '127.0.0.1', PORT: '0', CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' },
        ...env,
      },
    })
    const [, url = ''] = await child.says(/"url":"(http:[^"]+)"/)
    return { child, url }
  }

  test('that is killed with tokens in its spool loses none of them, also if it never read the registry', async () => {
    const { curfew, idp } = await openWorld()
    const gate = await openGate(curfew.gate.url)
    onTestFinished(() => gate.close())
    await gate.shut()
    const spool = await openFolder()
    const first = await startIngest(gate.url, spool)
    const sids = sidsOf(20)
    expect(await postAll(first.url, idp, sids)).toEqual(sids.map(() => 200))
    // A proxy must still send posts to the process, so it is ready.
    expect((await fetch(`${first.url}/readyz`)).status).toBe(200)
    await first.child.kill()

    const second = await startIngest(gate.url, spool)
    const more = sidsOf(5, 'more')
    expect(await postAll(second.url, idp, more)).toEqual(more.map(() => 200))
    await gate.open()
    await expectEvents(curfew, [...sids, ...more])
    expect(second.child.stderr).not.toContain(await idp.token(CLIENT).then((token) => token.slice(0, 20)))
    second.child.signal('SIGTERM')
    expect(await second.child.exit()).toMatchObject({ code: 0 })
  })

  test('behind a trusted proxy limits the clients of the proxy, each by itself', async () => {
    const { curfew, idp } = await openWorld({ workers: 0 })
    const { url } = await startIngest(curfew.gate.url, await openFolder(), {
      CURFEW_TRUSTED_PROXIES: '127.0.0.0/8,::1/128',
    })
    const forged = await (await createProviderKey('k1')).sign(idp.claims(CLIENT))
    const from = async (address: string) => {
      const headers = { 'x-forwarded-for': address }
      const posted = { issuer: ISSUER, clientId: CLIENT, token: forged }
      return (await postToRelay(url, posted, headers)).status
    }
    const statuses = await Promise.all(Array.from({ length: 100 }, () => from('192.0.2.1')))
    expect(statuses).toContain(429)
    expect(await from('192.0.2.2')).toBe(400)
  })
})

test('a flood of bad tokens is limited, and good tokens of the same address pass', async () => {
  const { curfew, idp } = await openWorld({ workers: 0 })
  const stranger = await createProviderKey('k1')
  const flood = await Promise.all(
    Array.from({ length: 200 }, async () => post(curfew.url, await stranger.sign(idp.claims(CLIENT)))),
  )
  const statuses = flood.map(({ response }) => response.status)
  expect(new Set(statuses)).toEqual(new Set([400, 429]))
  expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(100)
  const [limited] = flood.filter(({ response }) => response.status === 429)
  expect(Number(limited?.response.headers.get('retry-after'))).toBeGreaterThan(0)
  const sids = sidsOf(100)
  expect(await postAll(curfew.url, idp, sids)).toEqual(sids.map(() => 200))
})

test('a flood of tokens with invented keys stores none of them, and the tokens of a new key pass', async () => {
  const { curfew, idp } = await openWorld({ workers: 0 })
  expect(await postAll(curfew.url, idp, ['before'])).toEqual([200])
  const strangers = await Promise.all([createProviderKey('invented'), createProviderKey(undefined)])
  const flood = Promise.all(
    Array.from({ length: 200 }, async (_, n) => {
      const token = await strangers[n % 2]?.sign(idp.claims(CLIENT))
      return (await post(curfew.url, token ?? '')).response.status
    }),
  )
  idp.keys = [await createProviderKey('k2')]
  const sids = sidsOf(20)
  expect(await postAll(curfew.url, idp, sids)).toEqual(sids.map(() => 200))
  expect(new Set(await flood)).toEqual(new Set([400, 429]))
  const { rows } = await curfew.db.query<{ value: Buffer }>('select value from log_records')
  const stored = rows.map(({ value }) => JSON.parse(value.toString('utf8')))
  expect(stored.map(({ sid }) => sid).sort()).toEqual(['before', ...sids].sort())
  expect(stored.every(({ relay }) => relay.verified)).toBe(true)
})
