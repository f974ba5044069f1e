import { generateKeyPairSync } from 'node:crypto'
import type { LogoutEventInput, LogoutEventStatus, SessionInput } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { type ClientCredential, openTokenServer, type TokenServer } from '../support/token-server.ts'

// Goal: a logout revokes the tokens that the identity provider posted with the session (RFC 7009), and the tokens are stored nowhere
// in plain text. Each test names its requirement (REV-nn).
// Method: a strict authorization server that verifies credentials with jose; the whole pipeline over real HTTP and PostgreSQL.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
})
afterAll(() => curfew.stop())

const BASIC = { method: 'client_secret_basic', secret: 'hush:1' } as const
const HOUR_MS = 3_600_000
let registered = 0
let tokens = 0
/** A token that is found wherever it is. */
const newToken = (kind: string) => `${kind}-secret-token-${tokens++}`

async function register(
  own: Readonly<Record<string, unknown>> = {},
  credential: ClientCredential = BASIC,
): Promise<TokenServer & { readonly clientId: string }> {
  const clientId = `app-${registered++}`
  const server = await openTokenServer({ clientId, credential })
  const secret = 'secret' in credential ? { secret: credential.secret } : {}
  await curfew.client.putRelyingParty(ISSUER, clientId, {
    curfew: { channels: { revocation: { revocation_endpoint: server.uri, ...secret, ...own } } },
  })
  return Object.create(server, { clientId: { value: clientId } })
}

type Posted = NonNullable<SessionInput['revocation']>

/** Posts a session that began a minute ago, and waits until the index has it. */
async function begin(
  clientId: string,
  { sub = 'alice', sid = `${clientId}-s`, ...over }: Partial<SessionInput> = {},
): Promise<{ readonly sid: string; readonly refresh: string; readonly access: string }> {
  const [refresh, access] = [newToken('refresh'), newToken('access')]
  const revocation: Posted = [
    { token: access, hint: 'access_token' },
    { token: refresh, hint: 'refresh_token' },
  ]
  const [started_at, expires_at] = [-60_000, HOUR_MS].map((ms) => new Date(Date.now() + ms).toISOString())
  const session = { iss: ISS, sub, sid, client_id: clientId, started_at, expires_at, revocation, ...over }
  await curfew.client.postSession(JSON.parse(JSON.stringify(session)) as SessionInput)
  await eventually(async () => expect(await rowOf(clientId, sid)).toBeDefined())
  return { sid, refresh, access }
}

/** The row of a session in the index. */
async function rowOf(clientId: string, sid: string): Promise<{ sealed: string | null } | undefined> {
  const { rows } = await curfew.db.query<{ sealed: string | null }>(
    'select sealed_tokens as sealed from sessions where client_id = $1 and sid = $2',
    [clientId, sid],
  )
  return rows[0]
}

async function logout(clientId: string, event: Partial<LogoutEventInput>): Promise<LogoutEventStatus> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, clients: [clientId], ...event })
  return curfew.client.getLogoutEvent(id, { wait: 20 })
}

const DONE = { channel: 'revocation', state: 'acknowledged', level: 'done', names: 'session' }

/** Makes waiting deliveries of a client due. */
const hurry = (clientId: string) =>
  curfew.db.query(
    "update deliveries d set due_at = now() from bindings b join relying_parties p on p.id = b.relying_party_id where b.id = d.binding_id and p.client_id = $1 and d.state = 'pending'",
    [clientId],
  )

describe('REV-01: a logout', () => {
  test('of a session revokes its tokens, the refresh token first, and is done', async () => {
    await using app = await register()
    const { sid, refresh, access } = await begin(app.clientId)
    expect((await logout(app.clientId, { sid })).deliveries).toMatchObject([DONE])
    expect(app.received).toEqual([
      { token: refresh, hint: 'refresh_token', status: 200 },
      { token: access, hint: 'access_token', status: 200 },
    ])
  })

  test('of the subject revokes the tokens of each session that the index has', async () => {
    await using app = await register()
    const [one, two] = [
      await begin(app.clientId, { sid: 'bob-1', sub: 'bob' }),
      await begin(app.clientId, { sid: 'bob-2', sub: 'bob' }),
    ]
    const other = await begin(app.clientId, { sid: 'carol-1', sub: 'carol' })
    expect((await logout(app.clientId, { sub: 'bob' })).deliveries).toMatchObject([DONE, DONE])
    expect(new Set(app.revoked)).toEqual(
      new Set([one, two].flatMap(({ refresh, access }) => [refresh, access])),
    )
    expect(app.revoked).not.toContain(other.refresh)
  })

  test('of everyone at the issuer revokes the tokens of all sessions', async () => {
    await using app = await register()
    const sessions = [
      await begin(app.clientId, { sid: 'dora-1', sub: 'dora' }),
      await begin(app.clientId, { sid: 'emil-1', sub: 'emil' }),
    ]
    await curfew.client.postLogoutEvent({
      iss: ISS,
      scope: 'issuer',
      clients: [app.clientId],
    } as LogoutEventInput)
    await eventually(() =>
      expect(new Set(app.revoked)).toEqual(
        new Set(sessions.flatMap(({ refresh, access }) => [refresh, access])),
      ),
    )
  })

  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicJwk = { ...publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256' }
  const jwk = JSON.stringify({ ...privateKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256' })
  test.each<[ClientCredential, object]>([
    [{ method: 'client_secret_post', secret: 'hush&2' }, {}],
    [{ method: 'client_secret_jwt', secret: 'hush-3-hush-3-hush-3-hush-3-hush-3' }, {}],
    [{ method: 'private_key_jwt', publicJwk }, { secret: jwk }],
    [{ method: 'none' }, {}],
  ])('authenticates with %j', async (credential, more) => {
    await using app = await register({ method: credential.method, ...more }, credential)
    const { sid, refresh, access } = await begin(app.clientId)
    expect((await logout(app.clientId, { sid })).deliveries).toMatchObject([DONE])
    expect(app.revoked).toEqual([refresh, access])
    expect(await curfew.client.probe(ISSUER, app.clientId)).toMatchObject({
      ...{ channel: 'revocation', report: { failed: 0, unknown: 0 } },
    })
  })

  test('is not owed for a session that the index does not have, and is owed once the session is posted', async () => {
    await using app = await register()
    const { id, deliveries } = await logout(app.clientId, { sid: 'late-1' })
    expect(deliveries).toEqual([])
    const { refresh, access } = await begin(app.clientId, { sid: 'late-1' })
    await eventually(async () =>
      expect((await curfew.client.getLogoutEvent(id)).deliveries).toMatchObject([DONE]),
    )
    expect(app.revoked).toEqual([refresh, access])
  })

  test('of a session without tokens is a dead letter, and a replay revokes the tokens that are posted then', async () => {
    await using app = await register()
    await begin(app.clientId, { sid: 'bare-1', revocation: undefined as never })
    const { deliveries } = await logout(app.clientId, { sid: 'bare-1' })
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'token_required' }])
    expect(app.received).toEqual([])
    const { refresh, access } = await begin(app.clientId, { sid: 'bare-1' })
    await eventually(async () => expect((await rowOf(app.clientId, 'bare-1'))?.sealed).not.toBeNull())
    await curfew.client.startReplay({ filter: { client_id: app.clientId } })
    await eventually(() => expect(app.revoked).toEqual([refresh, access]))
  })

  test('revokes the tokens of the last post, after a rotation', async () => {
    await using app = await register()
    const first = await begin(app.clientId, { sid: 'rotated' })
    const before = (await rowOf(app.clientId, 'rotated'))?.sealed
    const second = await begin(app.clientId, { sid: 'rotated' })
    await eventually(async () => expect((await rowOf(app.clientId, 'rotated'))?.sealed).not.toBe(before))
    // A post without tokens keeps them.
    await begin(app.clientId, { sid: 'rotated', email: 'a@example.com', revocation: undefined as never })
    await logout(app.clientId, { sid: 'rotated' })
    expect(app.revoked).toEqual([second.refresh, second.access])
    expect(app.revoked).not.toContain(first.refresh)
  })

  test('that is late does not revoke the tokens of a session that began again after it', async () => {
    await using app = await register()
    const started_at = new Date(Date.now() - 120_000).toISOString()
    const { sid } = await begin(app.clientId, { sid: 'again', started_at })
    app.behave({ status: 503 })
    const occurred_at = new Date(Date.now() - 60_000).toISOString()
    const { id } = await curfew.client.postLogoutEvent({
      iss: ISS,
      sid,
      clients: [app.clientId],
      occurred_at,
    })
    await eventually(() => expect(app.received.length).toBeGreaterThanOrEqual(3))
    const before = (await rowOf(app.clientId, sid))?.sealed
    const later = await begin(app.clientId, { sid, started_at: new Date(Date.now() - 1_000).toISOString() })
    await eventually(async () => expect((await rowOf(app.clientId, sid))?.sealed).not.toBe(before))
    app.behave(null)
    await eventually(async () => {
      await hurry(app.clientId)
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'token_required' }])
    })
    expect(app.received.map(({ token }) => token)).not.toContain(later.refresh)
    expect((await logout(app.clientId, { sid })).deliveries).toMatchObject([DONE])
    expect(app.revoked).toEqual([later.refresh, later.access])
  })
})

describe('REV-02: the answer', () => {
  test('503 keeps the tokens, and a later attempt revokes them', async () => {
    await using app = await register()
    const { sid, refresh, access } = await begin(app.clientId)
    app.behave({ status: 503 })
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sid, clients: [app.clientId] })
    await eventually(() => expect(app.received).toHaveLength(3))
    app.behave(null)
    await eventually(async () => {
      await hurry(app.clientId)
      expect((await curfew.client.getLogoutEvent(id)).deliveries).toMatchObject([DONE])
    })
    expect(app.revoked).toEqual([refresh, access])
  })

  test('401 ends in a dead letter that says what to do, and a replay with the right secret revokes the tokens', async () => {
    await using app = await register({ secret: 'wrong' })
    const { sid, refresh, access } = await begin(app.clientId)
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sid, clients: [app.clientId] })
    await eventually(() => expect(app.received).toHaveLength(1))
    // The three further attempts would take ten minutes.
    await eventually(async () => {
      await curfew.db.query(
        "update deliveries set refusals = 3 where state = 'pending' and attempts > 0 and event_id in (select id from events where given_id = $1)",
        [id],
      )
      await hurry(app.clientId)
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'misconfigured' }])
    })
    const { items } = await curfew.client.listDeadLetters({ client_id: app.clientId })
    expect(items).toMatchObject([
      { channel: 'revocation', fix: expect.stringMatching(/credential of the client/) },
    ])
    await curfew.client.putRelyingParty(ISSUER, app.clientId, {
      curfew: { channels: { revocation: { revocation_endpoint: app.uri, secret: BASIC.secret } } },
    })
    await curfew.client.startReplay({ filter: { client_id: app.clientId } })
    await eventually(async () => {
      // A worker whose copy of the registry is old tries the old secret once more.
      await hurry(app.clientId)
      expect(app.revoked).toEqual([refresh, access])
    })
  })

  test('of a worker that dies is not lost: another worker revokes the tokens', async () => {
    await using dying = await openCurfew({ workers: 0, bookkeepers: 1 })
    const server = await openTokenServer({ clientId: 'app', credential: BASIC })
    await dying.client.putRelyingParty(ISSUER, 'app', {
      curfew: { channels: { revocation: { revocation_endpoint: server.uri, secret: BASIC.secret } } },
    })
    const first = await dying.startWorker({ leaseMs: 1_000 })
    const expires_at = new Date(Date.now() + HOUR_MS).toISOString()
    const revocation: Posted = [{ token: newToken('refresh'), hint: 'refresh_token' }]
    const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'app', expires_at, revocation }
    await dying.client.postSession(session as SessionInput)
    await eventually(async () => {
      expect((await dying.client.listSessions({ iss: ISS, sid: 's1' })).items).toHaveLength(1)
    })
    const { promise: never, resolve } = Promise.withResolvers<void>()
    server.behave(never)
    const { id } = await dying.client.postLogoutEvent({ iss: ISS, sid: 's1' })
    await eventually(async () => {
      const { rows } = await dying.db.query("select from deliveries where state = 'in_flight'")
      expect(rows).toHaveLength(1)
    })
    await first.kill()
    resolve()
    server.behave(null)
    await dying.startWorker({ leaseMs: 1_000 })
    await eventually(async () => {
      expect((await dying.client.getLogoutEvent(id)).deliveries).toMatchObject([DONE])
    })
    expect(server.revoked.at(-1)).toBe(revocation[0]?.token)
    await server[Symbol.asyncDispose]()
  })
})

describe('REV-03: a token', () => {
  /** Every table of the database, as text. */
  async function everything(): Promise<string> {
    const { rows: tables } = await curfew.db.query<{ name: string }>(
      "select c.oid::regclass::text as name from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace",
    )
    expect(tables.length).toBeGreaterThan(30)
    const texts: string[] = []
    for (const { name } of tables) {
      const { rows } = await curfew.db.query<{ text: string }>(`select r::text as text from ${name} r`)
      texts.push(...rows.map(({ text }) => text))
    }
    return texts.join('\n')
  }

  test('is in no table, no log and no answer, neither before nor after its revocation', async () => {
    await using app = await register()
    const { sid, refresh } = await begin(app.clientId, { sub: 'frida' })
    const isNowhere = async (id: string | null) => {
      const stored = await everything()
      const bytes = Buffer.from('secret-token').toString('hex')
      const answers = [
        await curfew.client.listSessions({ iss: ISS, sid }),
        await curfew.client.listSessions({ iss: ISS, sub: 'frida' }),
        await curfew.client.getRelyingParty(ISSUER, app.clientId),
        ...(id === null
          ? []
          : [await curfew.client.getLogoutEvent(id), await curfew.client.getEventSummary(id)]),
      ]
      for (const text of [stored, curfew.lines.join(), JSON.stringify(answers)]) {
        expect(text).not.toContain('secret-token')
        expect(text).not.toContain(bytes)
      }
      expect(JSON.stringify(answers)).not.toMatch(/sealed/)
    }
    await isNowhere(null)
    app.behave({ status: 401, body: JSON.stringify({ error: 'no', error_description: `no: ${refresh}` }) })
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sid, clients: [app.clientId] })
    await eventually(() => expect(app.received).toHaveLength(1))
    await eventually(async () => {
      const { rows } = await curfew.db.query(
        "select from attempts where error_description like '%[credential]%'",
      )
      expect(rows).toHaveLength(1)
    })
    await isNowhere(id)
  })

  test('is in the event log in sealed form only', async () => {
    const record: string[] = []
    await using recording = await openCurfew({
      workers: 0,
      wrapEventLog: (real) => ({
        ...real,
        async append(records) {
          record.push(...records.map(({ value }) => new TextDecoder().decode(value)))
          return real.append(records)
        },
      }),
    })
    const expires_at = new Date(Date.now() + HOUR_MS).toISOString()
    const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'app', expires_at }
    await recording.client.postSession({
      ...session,
      revocation: [{ token: newToken('refresh') }],
    } as SessionInput)
    expect(record).toHaveLength(1)
    expect(record[0]).not.toMatch(/secret-token|revocation/)
    expect(JSON.parse(record[0] ?? '')).toMatchObject({ sealed_tokens: expect.stringMatching(/^eyJ/) })
  })

  test('is erased when its revocation is acknowledged, even if another channel of the client failed', async () => {
    await using app = await register()
    const { sid } = await begin(app.clientId)
    await logout(app.clientId, { sid })
    await eventually(async () => expect(await rowOf(app.clientId, sid)).toBeUndefined())
    await using both = await register()
    await curfew.client.putRelyingParty(ISSUER, both.clientId, {
      backchannel_logout_uri: 'http://127.0.0.1:1/nothing',
      curfew: { channels: { revocation: { revocation_endpoint: both.uri, secret: BASIC.secret } } },
    })
    const second = await begin(both.clientId)
    await curfew.client.postLogoutEvent({ iss: ISS, sid: second.sid, clients: [both.clientId] })
    await eventually(async () => expect(await rowOf(both.clientId, second.sid)).toEqual({ sealed: null }))
    expect(both.revoked).toEqual([second.refresh, second.access])
  })

  test('is gone with its session: after its end, and after the erasure of the subject', async () => {
    await using app = await register()
    const { sid } = await begin(app.clientId, { sub: 'gina' })
    await curfew.client.endSession({ iss: ISS, sid })
    await eventually(async () => expect(await rowOf(app.clientId, sid)).toBeUndefined())
    const other = await begin(app.clientId, { sub: 'hugo', sid: 'hugo-1' })
    await curfew.client.eraseSubject(ISSUER, 'hugo', { abandon: true })
    await eventually(async () => expect(await rowOf(app.clientId, other.sid)).toBeUndefined())
  })
})

test('a session with tokens is refused while ingest has no master key, and nothing of it is stored', async () => {
  await using keyless = await openCurfew({ sealsTokens: false, workers: 0 })
  const expires_at = new Date(Date.now() + HOUR_MS).toISOString()
  const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'app', expires_at }
  const response = await keyless.call('POST', '/v1/sessions', {
    ...{ ...session, revocation: [{ token: newToken('refresh') }] },
  })
  expect(response.status).toBe(409)
  expect(await response.json()).toMatchObject({
    ...{ title: 'No master key', detail: expect.stringContaining('Set CURFEW_MASTER_KEY at ingest') },
    errors: [{ pointer: '/revocation' }],
  })
  const { rows } = await keyless.db.query('select from log_records')
  expect(rows).toEqual([])
  expect((await keyless.call('POST', '/v1/sessions', session)).status).toBe(202)
})

test.each([
  [[]],
  [[{ token: '' }]],
  [[{ token: 'ümlaut' }]],
  [[{ token: 'a', hint: 'id_token' }]],
  [[{ token: 'a', more: 1 }]],
  [Array.from({ length: 5 }, () => ({ token: 'a' }))],
])('a session with the tokens %j is refused, without a word of them', async (revocation) => {
  const expires_at = new Date(Date.now() + HOUR_MS).toISOString()
  const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'app', expires_at }
  const response = await curfew.call('POST', '/v1/sessions', { ...session, revocation })
  expect(response.status).toBe(400)
})
