import { randomUUID } from 'node:crypto'
import type { Audit } from '@curfew/contract'
import type { ClientId, Issuer, IssuerName } from '@curfew/domain'
import { claimAudits } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type AuditedRp, openAuditedRp } from '../support/audited-rp.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a logout audit says whether a relying party ends sessions, even if it answers every logout with 200.
// Method: a real relying party with a session store and a hook, which keeps or breaks its word; a bookkeeper and a worker.

let curfew: Curfew
let rp: AuditedRp
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  rp = await openAuditedRp(curfew, 'shop')
})
afterAll(async () => {
  await curfew.stop()
  await rp[Symbol.asyncDispose]()
})
beforeEach(() => {
  rp.behave({})
  rp.forget()
})

/** Runs one audit and returns it when it has ended. */
async function audited(clientId = 'shop'): Promise<Audit> {
  const { audits } = await curfew.client.runAudits({ issuer: ISSUER, clients: [clientId] })
  return ended(audits[0]?.id ?? '')
}
function ended(id: string): Promise<Audit> {
  return eventually(async () => {
    const audit = await curfew.client.getAudit(id)
    expect(audit.state).toBe('ended')
    return audit
  })
}
const put = (more?: Parameters<AuditedRp['setup']>[0]) =>
  curfew.client.putAuditSetup(ISSUER, 'shop', rp.setup(more))

describe('an audit', () => {
  test('passes when the relying party ends the session', async () => {
    await put()
    const before = rp.logouts
    const audit = await audited()
    expect(audit).toMatchObject({
      ...{ issuer: ISSUER, client_id: 'shop', trigger: 'request', result: 'passed', reason: null, fix: null },
      delivery: { state: 'acknowledged', level: 'done' },
      check: { says: 'logged_out', status: 401 },
    })
    expect(audit.propagation_ms).toBeGreaterThan(0)
    expect(audit.propagation_ms).toBeLessThan(5_000)
    expect(rp.logouts).toBe(before + 1)
    expect(rp.sessions.size).toBe(0)
    const event = await curfew.client.getLogoutEvent(audit.event_id ?? '', { issuer: ISSUER })
    expect(event).toMatchObject({ iss: ISS, reason: 'audit', clients: ['shop'], status: 'settled', total: 1 })
  })

  test('fails when the relying party answers 200 and ends nothing', async () => {
    await put({ timeout_s: 1 })
    rp.behave({ ends: false })
    const audit = await audited()
    expect(audit).toMatchObject({
      ...{ result: 'failed', reason: 'session_survived', propagation_ms: null },
      delivery: { state: 'acknowledged', level: 'done' },
      check: { says: 'logged_in', status: 200 },
    })
    expect(audit.what).toContain('had acknowledged the logout (level done)')
  })

  test('fails when a refresh at the moment of the logout brings the session back', async () => {
    await put({ refresh: { url: `${rp.url}/refresh`, method: 'POST' } })
    rp.behave({ revives: true })
    const release = rp.hold('/token')
    const { audits } = await curfew.client.runAudits({ issuer: ISSUER, clients: ['shop'] })
    // The refresh began before the logout. It ends after the audit saw the session over.
    const before = rp.refusals
    await eventually(() => expect(rp.refusals).toBeGreaterThan(before))
    release()
    const audit = await ended(audits[0]?.id ?? '')
    expect(audit).toMatchObject({ result: 'failed', reason: 'revived_by_refresh' })
    expect(audit.refreshes).toBeGreaterThan(0)
  })
})

describe('an audit without a verdict', () => {
  test.each([
    ['login_failed', { hook: { status: 500, body: 'broken' } }, 'The hook answered 500'],
    ['login_failed', { hook: { status: 200, body: '<html>' } }, 'something else than JSON'],
    ['login_failed', { hook: { status: 200, body: '{"cookies":[]}' } }, 'neither sub nor sid'],
    ['not_logged_in', { check: { status: 401 } }, 'logged out before the logout'],
    ['check_unclear', { check: { status: 500 } }, 'answered with the status 500.'],
  ] as const)(
    'is inconclusive with the reason %s (%o), and posts no logout',
    async (reason, manner, what) => {
      await put()
      const before = rp.logouts
      rp.behave(manner)
      const audit = await audited()
      expect(audit).toMatchObject({ result: 'inconclusive', reason, event_id: null, delivery: null })
      expect(audit.what).toContain(what)
      expect(rp.logouts).toBe(before)
    },
  )

  test('says that the logout was not delivered when the relying party refuses it', async () => {
    await put({ timeout_s: 1 })
    rp.behave({ ends: false, logoutStatus: 503 })
    expect(await audited()).toMatchObject({
      ...{ result: 'failed', reason: 'not_delivered', delivery: { state: 'pending', level: null } },
    })
  })
})

test('a session that ended by itself proves nothing, while no logout was sent', async () => {
  await using own = await openAuditedRp(curfew, 'brief')
  await curfew.client.putAuditSetup(ISSUER, 'brief', own.setup())
  await curfew.client.changeRelyingParty(ISSUER, 'brief', () => ({ curfew: { enabled: false } }))
  const release = own.hold('/me')
  const { audits } = await curfew.client.runAudits({ issuer: ISSUER, clients: ['brief'] })
  // The session answers once, and has reached its own end by the next check.
  await eventually(() => expect(own.hooked).toHaveLength(1))
  release()
  await eventually(async () =>
    expect((await curfew.client.getAudit(audits[0]?.id ?? '')).event_id).not.toBeNull(),
  )
  own.forget()
  expect(await ended(audits[0]?.id ?? '')).toMatchObject({
    ...{ result: 'inconclusive', reason: 'ended_otherwise', propagation_ms: null },
  })
  await curfew.client.deleteAuditSetup(ISSUER, 'brief')
})

test('a relying party that hangs delays no other audit', async () => {
  await using other = await openAuditedRp(curfew, 'wiki')
  await put()
  await curfew.client.putAuditSetup(ISSUER, 'wiki', other.setup())
  const release = rp.hold('/hook')
  const { audits } = await curfew.client.runAudits({ issuer: ISSUER })
  const of = (client: string) => audits.find(({ client_id }) => client_id === client)?.id ?? ''
  expect((await ended(of('wiki'))).result).toBe('passed')
  expect((await curfew.client.getAudit(of('shop'))).state).toBe('running')
  release()
  expect((await ended(of('shop'))).result).toBe('passed')
  await curfew.client.deleteAuditSetup(ISSUER, 'wiki')
})

test('the secrets of a set-up reach the hook, and no answer, log line or audit record', async () => {
  const secret = 'Bearer hunter2-of-the-hook'
  const body = '{"key":"hunter3-of-the-body"}'
  const login = {
    kind: 'http',
    url: `${rp.url}/hook`,
    method: 'POST',
    headers: { Authorization: secret },
    body,
  } as const
  await put({ login })
  await audited()
  expect(rp.hooked.at(-1)).toMatchObject({ headers: { authorization: secret }, body })
  // A change without secrets keeps them, and a change of the URL does not.
  const { headers: _, body: __, ...bare } = login
  expect((await put({ login: bare, every_s: 300 })).secrets.toSorted()).toEqual(['body', 'headers'])
  await put({ login: bare })
  await audited()
  expect(rp.hooked.at(-1)).toMatchObject({ headers: { authorization: secret }, body })
  const elsewhere = { ...bare, url: `${rp.url}/elsewhere` }
  expect((await put({ login: elsewhere })).secrets).toEqual([])
  const answers = await Promise.all(
    [`/v1/issuers/${ISSUER}/relying-parties/shop/audit`, '/v1/audits', '/v1/audit?limit=50'].map(
      async (path) => (await curfew.call('GET', path)).text(),
    ),
  )
  const tables = ['logout_audits', 'logout_audit_setups', 'notifications', 'audit'] as const
  const stored = await Promise.all(
    tables.map(async (table) => JSON.stringify((await curfew.db.query(`select * from ${table}`)).rows)),
  )
  const written = [...answers, ...stored, ...curfew.lines].join('\n')
  for (const each of ['hunter2', 'hunter3', 'audit-user-of-shop']) expect(written).not.toContain(each)
})

describe('the schedule', () => {
  /** Makes the next scheduled audit due. */
  const due = () =>
    curfew.db.query("update logout_audit_setups set next_due_at = now() - interval '1 second'")
  const scheduled = async () => {
    const { items } = await curfew.client.listAudits({ issuer: ISSUER, client_id: 'shop' })
    return items.filter(({ trigger }) => trigger === 'schedule')
  }

  test('starts due audits again and again, one at a time, and notifies of the first failure only', async () => {
    await put({ every_s: 600, timeout_s: 1 })
    rp.behave({ ends: false })
    const known = (await scheduled()).length
    for (let round = 1; round <= 2; round++) {
      await due()
      await eventually(async () => {
        const audits = await scheduled()
        expect(audits.length).toBe(known + round)
        expect(audits[0]?.state).toBe('ended')
      })
    }
    const setup = await curfew.client.getAuditSetup(ISSUER, 'shop')
    const inS = (Date.parse(setup.next_due_at ?? '') - Date.now()) / 1_000
    expect(inS).toBeGreaterThan(530)
    expect(inS).toBeLessThan(661)
    expect(setup.last_result).toBe('failed')
    const failures = async () =>
      (
        await curfew.db.query<{ data: object }>(
          "select data from notifications where type = 'audit.failed' order by occurred_at desc",
        )
      ).rows
    const before = await failures()
    expect(before[0]?.data).toMatchObject({ issuer: ISSUER, client_id: 'shop', reason: 'session_survived' })
    // It passes again, which notifies of nothing, and then fails again.
    rp.behave({})
    expect((await audited()).result).toBe('passed')
    rp.behave({ ends: false })
    expect((await audited()).result).toBe('failed')
    expect((await audited()).result).toBe('failed')
    expect((await failures()).length).toBe(before.length + 1)
    await put()
  })

  test('an audit under way is not started twice', async () => {
    await put({ every_s: 600 })
    const release = rp.hold('/hook')
    const { audits } = await curfew.client.runAudits({ issuer: ISSUER, clients: ['shop'] })
    await eventually(async () =>
      expect((await curfew.client.getAudit(audits[0]?.id ?? '')).state).toBe('running'),
    )
    await due()
    await eventually(async () =>
      expect(
        Date.parse((await curfew.client.getAuditSetup(ISSUER, 'shop')).next_due_at ?? ''),
      ).toBeGreaterThan(Date.now()),
    )
    const again = await curfew.client.runAudits({ issuer: ISSUER, clients: ['shop'] })
    expect(again.audits.map(({ id }) => id)).toEqual(audits.map(({ id }) => id))
    release()
    await ended(audits[0]?.id ?? '')
    await put()
  })
})

test('of several bookkeepers exactly one runs an audit', async () => {
  await using own = await openCurfew({ bookkeepers: 3 })
  const rps = await Promise.all(Array.from({ length: 8 }, (_, at) => openAuditedRp(own, `rp-${at}`)))
  for (const each of rps) await own.client.putAuditSetup(ISSUER, each.clientId, each.setup())
  const { audits } = await own.client.runAudits({ issuer: ISSUER })
  expect(audits).toHaveLength(8)
  await eventually(async () => {
    const { items } = await own.client.listAudits({ result: 'passed' })
    expect(items).toHaveLength(8)
  })
  expect(rps.map(({ hooked, logouts }) => [hooked.length, logouts])).toEqual(rps.map(() => [1, 1]))
  await Promise.all(rps.map((each) => each[Symbol.asyncDispose]()))
})

test('many audits of one issuer leave room for those of others', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await own.client.putIssuer('other', { iss: 'https://other.example' })
  const setUp = async (issuer: string, clientId: string) => {
    await own.client.putRelyingParty(issuer, clientId, { backchannel_logout_uri: `${rp.url}/logout` })
    await own.client.putAuditSetup(issuer, clientId, rp.setup())
  }
  for (let at = 0; at < 6; at++) await setUp(ISSUER, `rp-${at}`)
  await setUp('other', 'shop')
  await own.client.runAudits({ issuer: ISSUER })
  await own.client.runAudits({ issuer: 'other' })
  const claim = { limit: 10, owner: randomUUID(), leaseMs: 30_000, ofIssuerMax: 4 }
  const issuers = async (limit: number) =>
    (await claimAudits(own.db, { ...claim, limit })).map(({ issuer }) => issuer)
  expect((await issuers(2)).toSorted()).toEqual([ISSUER, 'other'])
  expect(await issuers(10)).toEqual([ISSUER, ISSUER, ISSUER])
  expect(await issuers(10)).toEqual([])
})

describe('a set-up', () => {
  const path = `/v1/issuers/${ISSUER}/relying-parties/shop/audit`
  const status = async (body: unknown, key = curfew.adminKey) => {
    const response = await curfew.call('PUT', path, body, { authorization: `Bearer ${key}` })
    const { errors = [] } = (await response.json()) as { errors?: { pointer: string }[] }
    return [response.status, ...errors.map(({ pointer }) => pointer)]
  }
  const oidc = (more: object = {}) => ({
    kind: 'oidc',
    ...{ start_url: `${rp.url}/login`, username: 'audit', password: 'hunter2', sub: 'audit', ...more },
  })

  test('needs the scope events:write besides clients:write, because it decides who is logged out', async () => {
    expect(await status(rp.setup(), curfew.keyFor('clients:write'))).toEqual([403])
    expect(await status(rp.setup(), curfew.keyFor('clients:write', 'events:write'))).toEqual([200])
  })

  test('refuses addresses outside the networks of the relying party, in each of its URLs', async () => {
    const inside = rp.setup()
    const outside = 'http://10.1.2.3/x'
    expect(await status({ ...inside, login: { kind: 'http', url: outside, method: 'GET' } })).toEqual([
      400,
      '/login/url',
    ])
    expect(await status({ ...inside, login: oidc({ start_url: outside }) })).toEqual([
      400,
      '/login/start_url',
    ])
    expect(await status({ ...inside, check: { ...inside.check, url: outside } })).toEqual([400, '/check/url'])
    expect(await status({ ...inside, refresh: { url: outside, method: 'GET' } })).toEqual([
      400,
      '/refresh/url',
    ])
  })

  test('refuses statuses with two meanings, headers of the connection, and a login without a password', async () => {
    const setup = rp.setup()
    const check = { ...setup.check, logged_out: { status: [401, 200] } }
    expect(await status({ ...setup, check })).toEqual([400, '/check/logged_out/status'])
    const login = { ...setup.login, headers: { Host: 'other.example' } }
    expect(await status({ ...setup, login })).toEqual([400, '/login/headers/Host'])
    expect(await status({ ...setup, login: oidc({ password: undefined }) })).toEqual([400, '/login/password'])
    expect(await status({ ...setup, login: oidc({ start_url: `${ISS}/login` }) })).toEqual([
      400,
      '/login/start_url',
    ])
    expect(await status({ ...setup, login: oidc({ login_origins: ['https://a.example/path'] }) })).toEqual([
      400,
      '/login/login_origins/0',
    ])
  })

  test('keeps a password only for the places that get it now', async () => {
    expect(await status({ ...rp.setup(), login: oidc() })).toEqual([200])
    const again = oidc({ password: undefined })
    expect(await status({ ...rp.setup(), login: again })).toEqual([200])
    for (const change of [{ login_origins: ['https://evil.example'] }, { username: 'other' }])
      expect(await status({ ...rp.setup(), login: { ...again, ...change } })).toEqual([
        400,
        '/login/password',
      ])
    const { check } = rp.setup()
    expect(
      await status({ ...rp.setup(), check: { ...check, url: `${check.url}?more=1` }, login: again }),
    ).toEqual([200])
    expect(
      await status({ ...rp.setup(), check: { ...check, url: 'http://127.0.0.2:9/me' }, login: again }),
    ).toEqual([400, '/login/password'])
  })

  test.each(['check', 'refresh'])(
    'drops the secrets of a hook when the %s moves to another origin',
    async (moved) => {
      const refresh = { url: `${rp.url}/refresh`, method: 'POST' } as const
      const { login, check } = rp.setup()
      await put({
        refresh,
        login: { ...login, headers: { authorization: 'Bearer hunter2' } } as typeof login,
      })
      expect((await put({ refresh: { ...refresh, url: `${rp.url}/other` } })).secrets).toEqual(['headers'])
      expect((await put()).secrets).toEqual(['headers'])
      const url = 'http://127.0.0.2:9/elsewhere'
      const setup = moved === 'check' ? { check: { ...check, url } } : { refresh: { ...refresh, url } }
      expect((await put(setup)).secrets).toEqual([])
    },
  )

  test('that is missing is a 404 with the command that puts it, and only a caller with access learns what is registered', async () => {
    const { client } = curfew
    await client.putRelyingParty(ISSUER, 'bare', { backchannel_logout_uri: 'https://bare.example/logout' })
    const run = { issuer: ISSUER, clients: ['bare'] }
    for (const call of [
      client.getAuditSetup(ISSUER, 'bare'),
      client.deleteAuditSetup(ISSUER, 'bare'),
      client.runAudits(run),
    ])
      await expect(call).rejects.toMatchObject({
        problem: {
          title: 'No audit set-up',
          detail: expect.stringContaining('audit schedule bare --issuer'),
        },
      })
    await expect(client.runAudits(run)).rejects.toThrow('Nothing was started.')
    const titleFor = async (key: string, id: string) => {
      const headers = { authorization: `Bearer ${key}` }
      const response = await curfew.call('POST', '/v1/audits', { issuer: ISSUER, clients: [id] }, headers)
      return [response.status, ((await response.json()) as { title: string }).title]
    }
    expect(await titleFor(curfew.adminKey, 'ghost')).toEqual([404, 'No such relying party'])
    const own = { issuer: ISSUER as IssuerName, iss: ISS as Issuer, clients: new Set(['shop' as ClientId]) }
    const owner = curfew.keyBoundTo({ kind: 'clients', ...own }, 'admin')
    expect(await titleFor(owner, 'ghost')).toEqual([404, 'No audit set-up'])
  })

  test('is gone with its relying party', async () => {
    await using gone = await openAuditedRp(curfew, 'gone')
    await curfew.client.putAuditSetup(ISSUER, 'gone', gone.setup())
    await curfew.client.deleteRelyingParty(ISSUER, 'gone')
    await expect(curfew.client.getAuditSetup(ISSUER, 'gone')).rejects.toMatchObject({ status: 404 })
    await expect(curfew.client.runAudits({ issuer: ISSUER, clients: ['gone'] })).rejects.toMatchObject({
      status: 404,
    })
  })
})
