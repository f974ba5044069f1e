import type { ApiKeyInput } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'

// Goal: only an administrator creates keys, a revoked key stops working, and the key itself is stored and shown nowhere.
// Method: the real services over HTTP, and SQL to see which parts of a key are stored.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
})
afterAll(() => curfew.stop())

const as = (key: string, method: string, path: string, body?: unknown) =>
  curfew.call(method, path, body, { authorization: `Bearer ${key}` })
let count = 0
const create = (input: Partial<ApiKeyInput> = {}) =>
  curfew.client.createApiKey({ name: `key ${count++}`, scopes: ['clients:read'], ...input })

describe('a key', () => {
  test('works at once within its scopes, and is shown only when it is created', async () => {
    const created = await create({ name: 'wiki owner' })
    expect(created.key).toMatch(/^cfw_[\w-]{43}$/)
    expect(created.hint).toBe(created.key.slice(0, 10))
    expect((await as(created.key, 'GET', '/v1/issuers/main')).status).toBe(200)
    expect((await as(created.key, 'PUT', '/v1/issuers/main', {})).status).toBe(403)

    const listed = await (await curfew.call('GET', '/v1/api-keys')).text()
    const one = await (await curfew.call('GET', created.links.self)).text()
    const audit = await (await curfew.call('GET', '/v1/audit')).text()
    for (const text of [listed, one, audit]) {
      expect(text).toContain('wiki owner')
      expect(text).not.toContain(created.key.slice(10))
    }
    const { rows } = await curfew.db.query<{ hash: Buffer }>('select * from api_keys')
    expect(JSON.stringify(rows)).not.toContain(created.key.slice(10))
    expect(curfew.lines.join('')).not.toContain(created.key.slice(10))
  })

  test('stops working when it is revoked, stays in the list, and frees its name', async () => {
    const { id, key, name } = await create()
    expect((await as(key, 'GET', '/v1/issuers/main')).status).toBe(200)
    const revoked = await curfew.client.revokeApiKey(id)
    expect(revoked).toMatchObject({ revoked_by: 'admin', revoked_at: expect.any(String) })
    await eventually(async () => expect((await as(key, 'GET', '/v1/issuers/main')).status).toBe(401))
    // A second revocation gives the same answer.
    expect(await curfew.client.revokeApiKey(id)).toEqual(revoked)
    const next = await create({ name })
    expect((await as(next.key, 'GET', '/v1/issuers/main')).status).toBe(200)
    const items = (await curfew.client.listApiKeys({ limit: 500 })).items.filter((each) => each.name === name)
    expect(items.map(({ revoked_at }) => revoked_at === null)).toEqual([true, false])
  })

  test('stops working when it expires', async () => {
    const { key } = await create({ expires_at: new Date(Date.now() + 2_000).toISOString() })
    expect((await as(key, 'GET', '/v1/issuers/main')).status).toBe(200)
    await eventually(async () => expect((await as(key, 'GET', '/v1/issuers/main')).status).toBe(401))
  })

  test('is limited to its rate, and the refusal says when to retry', async () => {
    const { key } = await create({ requests_per_second: 1 })
    const answers = await Promise.all(Array.from({ length: 40 }, () => as(key, 'GET', '/v1/issuers/main')))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]))
    const refused = answers.find(({ status }) => status === 429)
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await curfew.call('GET', '/v1/issuers/main')).status).toBe(200)
  })

  test('is accepted while the ledger is unavailable if it was known before', async () => {
    const { key } = await create({ scopes: ['events:write'] })
    expect((await as(key, 'POST', '/v1/logout-events', {})).status).toBe(400)
    await curfew.gate.shut()
    try {
      expect((await as(key, 'POST', '/v1/logout-events', {})).status).toBe(400)
    } finally {
      await curfew.gate.open()
    }
  })
})

describe('a request for a key is refused', () => {
  test.each<[string, Record<string, unknown>, number, string]>([
    ['no scope', { scopes: [] }, 400, '/scopes'],
    ['an unknown scope', { scopes: ['everything'] }, 400, '/scopes/0'],
    ...['admin', 'Admin', 'demo', 'curfew', 'CURFEW', 'cur few', 'curfew.', 'Cur-Few '].map(
      (name): [string, Record<string, unknown>, number, string] => [
        `a name that Curfew uses: ${name}`,
        { name },
        400,
        '/name',
      ],
    ),
    ['a name that would break a log line', { name: 'a\nb' }, 400, '/name'],
    ['an unknown issuer', { issuer: 'unknown' }, 400, '/issuer'],
    ['clients but no issuer', { clients: ['mail'] }, 400, '/issuer'],
    ['an expiry in the past', { expires_at: '2020-01-01T00:00:00Z' }, 400, '/expires_at'],
    ['a key that the caller chose', { key: 'cfw_mine' }, 400, '/key'],
  ])('with %s', async (_what, input, status, pointer) => {
    const body = { name: `refused ${count++}`, scopes: ['clients:read'], ...input }
    const response = await curfew.call('POST', '/v1/api-keys', body)
    const { errors } = (await response.json()) as { errors: { pointer: string }[] }
    expect([response.status, errors[0]?.pointer]).toEqual([status, pointer])
  })

  test('with a name that another key has', async () => {
    const { name } = await create()
    const response = await curfew.call('POST', '/v1/api-keys', { name, scopes: ['clients:read'] })
    expect(response.status).toBe(409)
  })

  test('with a key instead of an id, and the key is not echoed', async () => {
    const { key } = await create()
    const response = await curfew.call('DELETE', `/v1/api-keys/${key}`)
    expect(response.status).toBe(404)
    const { detail } = (await response.json()) as { detail: string }
    expect(detail + curfew.lines.join('')).not.toContain(key)
  })
})

test('the audit log distinguishes two keys with the same name by their ids', async () => {
  const put = (key: string, sub: string) =>
    as(key, 'PUT', `/v1/issuers/main/relying-parties/${sub}`, { client_name: sub })
  const first = await create({ scopes: ['clients:write'] })
  expect((await put(first.key, 'first')).status).toBe(201)
  await curfew.client.revokeApiKey(first.id)
  await curfew.db.query("update api_keys set revoked_at = now() - interval '1 hour' where id = $1", [
    first.id,
  ])
  const second = await create({ name: first.name, scopes: ['clients:write'] })
  expect((await put(second.key, 'second')).status).toBe(201)
  const { items } = (await (await curfew.call('GET', '/v1/audit?limit=4')).json()) as {
    items: { object: string; credential: string; credential_id: string | null }[]
  }
  const by = (what: string) => items.find(({ object }) => object.endsWith(what))
  expect(by('/second')).toMatchObject({ credential: first.name, credential_id: second.id })
  expect(by('/first')).toMatchObject({ credential: first.name, credential_id: first.id })
  // An environment key has no id.
  expect(by(second.id)).toMatchObject({ credential: 'admin', credential_id: null })
})

test('every change is audited, and a key shows its last use', async () => {
  const { id, name } = await create({ issuer: 'main', clients: ['mail'] })
  await curfew.client.revokeApiKey(id)
  const audit = (await (await curfew.call('GET', '/v1/audit?limit=2')).json()) as { items: object[] }
  expect(audit.items).toMatchObject([
    { credential: 'admin', action: 'api_key.revoked', object: `/v1/api-keys/${id}` },
    {
      credential: 'admin',
      action: 'api_key.created',
      object: `/v1/api-keys/${id}`,
      detail: { name, scopes: ['clients:read'], issuer: 'main', clients: ['mail'] },
    },
  ])
  const used = await create()
  expect(used.last_used_at).toBeNull()
  await as(used.key, 'GET', '/v1/issuers/main')
  await eventually(async () => {
    const { items } = await curfew.client.listApiKeys({ limit: 500 })
    expect(items.find((each) => each.id === used.id)?.last_used_at).not.toBeNull()
  })
})
