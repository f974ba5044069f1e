import type { RelyingParty } from '@curfew/contract'
import type { BindingId } from '@curfew/domain'
import { disableBinding } from '@curfew/ledger'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a change applies to the version that its author saw or not at all. No change is lost, and every change is audited.
// Method: the real console over HTTP and a real database, with many concurrent changes.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, allowedNetworks: [] })
})
afterAll(() => curfew.stop())

const pathOf = (clientId: string) => `/v1/issuers/${ISSUER}/relying-parties/${clientId}`
const uriOf = (clientId: string) => `https://${clientId}.rp.example/logout`
type Headers = Readonly<Record<string, string>>

/** Makes one call. @returns the status, the tag and the body of the answer. */
async function call(method: string, path: string, body?: unknown, headers: Headers = {}) {
  const response = await curfew.call(method, path, body, headers)
  const text = await response.text()
  return {
    status: response.status,
    etag: response.headers.get('etag') ?? '',
    text,
    body: (text === '' ? {} : JSON.parse(text)) as RelyingParty & { client_name?: string } & {
      detail?: string
      errors?: readonly { pointer: string; detail: string }[]
    },
  }
}
const patch = (clientId: string, change: unknown, headers: Headers = {}) =>
  call('PATCH', pathOf(clientId), change, { 'content-type': 'application/merge-patch+json', ...headers })

async function register(clientId: string, body: object = {}) {
  const put = await call('PUT', pathOf(clientId), { backchannel_logout_uri: uriOf(clientId), ...body })
  expect([put.status, put.text]).toEqual([201, expect.any(String)])
  return put
}

interface Entry {
  readonly credential: string
  readonly action: string
  readonly object: string
  readonly detail: { readonly before: RelyingParty | null; readonly after: RelyingParty | null }
}
async function auditOf(object: string): Promise<readonly Entry[]> {
  const { items } = (await call('GET', '/v1/audit?limit=500')).body as unknown as { items: Entry[] }
  return items.filter((entry) => entry.object === object).toReversed()
}

test('the effective settings leave out unset members', async () => {
  const { body } = await register('plain', {
    curfew: { channels: { global_revocation: { uri: 'https://plain.rp.example/revoke' } } },
  })
  const settings = body.status.endpoints.map((endpoint) => endpoint.settings)
  expect(settings).toHaveLength(2)
  expect(settings.flatMap((each) => Object.values(each))).not.toContain(null)
})

test('a patch that enables one channel enables its endpoints that Curfew disabled, and no others', async () => {
  await register('two-gone', {
    curfew: { channels: { global_revocation: { uri: 'https://two-gone.rp.example/revoke' } } },
  })
  await curfew.db.query(
    `update bindings b set disabled_reason = 'answered 410'
       from relying_parties p where p.id = b.relying_party_id and p.client_id = 'two-gone'`,
  )
  const enabled = async (kind: string) => {
    const { body } = await patch('two-gone', { curfew: { channels: { [kind]: { enabled: true } } } })
    return body.status.endpoints.map((endpoint) => endpoint.enabled)
  }
  expect(await enabled('backchannel')).toEqual([true, false])
  expect(await enabled('global_revocation')).toEqual([true, true])
})

describe('an ETag', () => {
  test('is strong, and changes with every visible change, also by Curfew itself', async () => {
    const { etag } = await register('tagged')
    expect(etag).toMatch(/^"[^"]+"$/)
    expect((await call('GET', pathOf('tagged'))).etag).toBe(etag)
    const same = await call('PUT', pathOf('tagged'), { backchannel_logout_uri: uriOf('tagged') })
    expect([same.status, same.etag]).toEqual([200, etag])
    const changed = await patch('tagged', { client_name: 'Tagged' })
    expect(changed.etag).not.toBe(etag)
    const { rows } = await curfew.db.query<{ id: BindingId }>(
      "select b.id from bindings b join relying_parties p on p.id = relying_party_id where client_id = 'tagged'",
    )
    const gone = { uri: uriOf('tagged'), reason: 'answered 410' }
    await disableBinding(curfew.db, rows[0]?.id ?? (0 as BindingId), gone)
    const disabled = await call('GET', pathOf('tagged'))
    expect(disabled.body.status).toMatchObject({ enabled: false, disabled_reason: 'answered 410' })
    expect([etag, changed.etag]).not.toContain(disabled.etag)
    expect((await auditOf(pathOf('tagged'))).at(-1)).toMatchObject({
      credential: 'curfew',
      action: 'relying_party.endpoint_disabled',
      detail: { channel: 'backchannel', endpoint: 'main', reason: 'answered 410' },
    })
    await call('DELETE', pathOf('tagged'))
    expect((await register('tagged')).etag).not.toBe(etag)
  })

  test('stays the same when the same secret is put again', async () => {
    const put = (secret: string) =>
      call('PUT', pathOf('bearer'), {
        curfew: {
          channels: {
            global_revocation: { uri: 'https://bearer.rp.example/revoke', credential: 'bearer', secret },
          },
        },
      })
    const { status, etag, body } = await put('hush-3')
    expect(status).toBe(201)
    const again = await put('hush-3')
    expect([again.etag, again.body.status.updated_at]).toEqual([etag, body.status.updated_at])
    const line = JSON.stringify({
      ...body,
      curfew: {
        channels: {
          global_revocation: {
            ...Object(body.curfew.channels).global_revocation,
            secret: 'hush-3',
          },
        },
      },
    })
    const imported = await call('POST', `${pathOf('import')}`, line, {
      'content-type': 'application/x-ndjson',
    })
    expect(imported.body).toMatchObject({ unchanged: 1 })
    const other = await put('hush-4')
    expect(other.etag).not.toBe(etag)
    await curfew.db.query(
      "update bindings set sealed_secret = 'unreadable' where uri like 'https://bearer.%'",
    )
    expect((await put('hush-4')).etag).not.toBe(other.etag)
    expect(await auditOf(pathOf('bearer'))).toHaveLength(3)
  })

  test('saves the body of an answer that the caller already has', async () => {
    const { etag } = await register('cached')
    for (const header of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const { status, text, ...rest } = await call('GET', pathOf('cached'), undefined, {
        'if-none-match': header,
      })
      expect([header, status, text, rest.etag]).toEqual([header, 304, '', etag])
    }
    expect((await call('GET', pathOf('cached'), undefined, { 'if-none-match': '"x"' })).status).toBe(200)
  })

  test.each(['PUT', 'PATCH', 'DELETE'])(
    'lets %s through only if If-Match names the current version',
    async (method) => {
      const clientId = `guarded-${method.toLowerCase()}`
      const { etag } = await register(clientId)
      const body =
        method === 'DELETE' ? undefined : { client_name: 'Changed', backchannel_logout_uri: uriOf(clientId) }
      await patch(clientId, { client_name: 'Someone else' })
      for (const stale of [etag, `W/${etag}`, 'x', '""']) {
        const refused = await call(method, pathOf(clientId), body, { 'if-match': stale })
        expect([refused.status, refused.body.detail]).toEqual([412, expect.stringMatching(/Read it again/)])
      }
      const current = await call('GET', pathOf(clientId))
      expect(current.body.client_name).toBe('Someone else')
      // A weak tag never matches If-Match (RFC 9110 13.1.1).
      expect((await call(method, pathOf(clientId), body, { 'if-match': `W/${current.etag}` })).status).toBe(
        412,
      )
      const done = await call(method, pathOf(clientId), body, { 'if-match': `"x", ${current.etag}` })
      expect(done.status).toBe(200)
    },
  )

  test('blocks a change with If-Match for an unknown client, and with If-None-Match: * for a known one', async () => {
    const put = (clientId: string, headers: Headers) => call('PUT', pathOf(clientId), {}, headers)
    expect((await put('never', { 'if-match': '*' })).status).toBe(412)
    expect((await call('GET', pathOf('never'))).status).toBe(404)
    expect((await put('first', { 'if-none-match': '*' })).status).toBe(201)
    expect((await put('first', { 'if-none-match': '*' })).status).toBe(412)
    expect((await put('first', { 'if-match': '*' })).status).toBe(200)
  })

  test('guards issuers as well', async () => {
    const path = '/v1/issuers/guarded'
    const body = { iss: 'https://guarded.example' }
    const { etag } = await call('PUT', path, body)
    expect((await call('GET', path, undefined, { 'if-none-match': etag })).status).toBe(304)
    const changed = await call('PUT', path, { ...body, sid_supported: false }, { 'if-match': etag })
    expect([changed.status, changed.etag === etag]).toEqual([200, false])
    expect((await call('PUT', path, body, { 'if-match': etag })).status).toBe(412)
    expect((await call('DELETE', path, undefined, { 'if-match': etag })).status).toBe(412)
    expect((await call('DELETE', path, undefined, { 'if-match': changed.etag })).status).toBe(200)
  })
})

describe('PATCH', () => {
  test('changes named members, removes members that are null, and keeps the rest', async () => {
    await register('patched', {
      contacts: ['a@b.example'],
      tos_uri: 'x',
      curfew: { timeout_ms: 500, concurrency: 2 },
    })
    const { status, body } = await patch('patched', {
      client_name: 'Patched',
      tos_uri: null,
      curfew: { concurrency: null, rate_per_second: 5 },
    })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      client_name: 'Patched',
      contacts: ['a@b.example'],
      backchannel_logout_uri: uriOf('patched'),
      curfew: { timeout_ms: 500, rate_per_second: 5 },
    })
    expect(body).not.toHaveProperty('tos_uri')
    expect(body.curfew).not.toHaveProperty('concurrency')
  })

  test('is checked by its whole result, and a fault changes nothing', async () => {
    const before = await register('checked')
    for (const [change, pointer] of [
      [{ backchannel_logout_uri: 'http://rp.example/' }, '/backchannel_logout_uri'],
      [{ curfew: { timeout_ms: 1 } }, '/curfew/timeout_ms'],
      [{ curfew: 7 }, '/curfew'],
      [{ client_id: 'other' }, '/client_id'],
      [{ client_name: 'Fine', id_token_signed_response_alg: 'HS256' }, '/id_token_signed_response_alg'],
    ] as const) {
      const refused = await patch('checked', change)
      expect([refused.status, refused.body.errors?.map((fault) => fault.pointer)]).toEqual([400, [pointer]])
    }
    expect((await call('GET', pathOf('checked'))).etag).toBe(before.etag)
  })

  test('accepts plain JSON too, and refuses other types and unknown clients', async () => {
    await register('typed')
    expect((await call('PATCH', pathOf('typed'), { client_name: 'T' })).status).toBe(200)
    for (const body of ['[]', '"x"', 'null']) {
      expect([body, (await call('PATCH', pathOf('typed'), body)).status]).toEqual([body, 400])
    }
    const refused = await call('PATCH', pathOf('typed'), '{}', { 'content-type': 'application/x-ndjson' })
    expect([refused.status, refused.body.detail]).toEqual([
      415,
      expect.stringMatching(/merge-patch\+json or/),
    ])
    expect(
      (await call('PUT', pathOf('typed'), '{}', { 'content-type': 'application/merge-patch+json' })).status,
    ).toBe(415)
    expect((await patch('unknown', {})).status).toBe(404)
  })

  test('loses no change when many come at once without If-Match', async () => {
    await register('busy')
    const names = Array.from({ length: 24 }, (_, index) => `member_${index}`)
    const answers = await Promise.all(names.map((name) => patch('busy', { [name]: name })))
    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 200))
    const { body } = await call('GET', pathOf('busy'))
    expect(body).toMatchObject(Object.fromEntries(names.map((name) => [name, name])))
    expect(new Set(answers.map(({ etag }) => etag)).size).toBe(names.length)
    expect(await auditOf(pathOf('busy'))).toHaveLength(names.length + 1)
  })

  test('lets one change through when many come at once with the same If-Match', async () => {
    const { etag } = await register('rivals')
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) => patch('rivals', { winner: index }, { 'if-match': etag })),
    )
    const statuses = answers.map(({ status }) => status).toSorted()
    expect(statuses).toEqual([200, ...Array.from({ length: 11 }, () => 412)])
  })
})

describe('DELETE', () => {
  test('hides a relying party, and a new registration starts from nothing', async () => {
    const { body } = await register('gone', { client_name: 'Gone', contacts: ['a@b.example'] })
    const removed = await call('DELETE', pathOf('gone'))
    expect([removed.status, removed.body]).toEqual([200, { client_id: 'gone', issuer: ISSUER, waiting: 0 }])
    for (const method of ['GET', 'DELETE']) expect((await call(method, pathOf('gone'))).status).toBe(404)
    expect((await call('GET', `/v1/issuers/${ISSUER}/relying-parties?limit=500`)).text).not.toContain(
      '"gone"',
    )
    const { rows } = await curfew.db.query(
      "select metadata, settings from relying_parties where client_id = 'gone'",
    )
    expect(rows).toEqual([{ metadata: {}, settings: {} }])
    const again = await register('gone')
    expect(again.body).not.toHaveProperty('contacts')
    expect(again.body.status.created_at > body.status.created_at).toBe(true)
  })

  test('frees its URI', async () => {
    await register('owner', { backchannel_logout_uri: 'https://shared.example/' })
    await call('DELETE', pathOf('owner'))
    await register('heir', { backchannel_logout_uri: 'https://shared.example/' })
  })

  test('of an issuer is refused while it has relying parties', async () => {
    const path = '/v1/issuers/used'
    await call('PUT', path, { iss: 'https://used.example' })
    await call('PUT', `${path}/relying-parties/a`, {})
    const refused = await call('DELETE', path)
    expect([refused.status, refused.body.detail]).toEqual([409, expect.stringMatching(/^1 relying part/)])
    await call('DELETE', `${path}/relying-parties/a`)
    expect((await call('DELETE', path)).status).toBe(200)
    for (const gone of [path, `${path}/relying-parties`, '/issuers/used/jwks.json'])
      expect([gone, (await call('GET', gone)).status]).toEqual([gone, 404])
    expect((await call('DELETE', path)).status).toBe(404)
    expect((await call('PUT', '/v1/issuers/elsewhere', { iss: 'https://used.example' })).status).toBe(409)
    expect((await call('PUT', path, { iss: 'https://used.example' })).status).toBe(201)
  })
})

describe('the audit log', () => {
  test('has each change with its credential and both versions, and no calls that change nothing', async () => {
    const path = pathOf('audited')
    await register('audited')
    await call('PUT', path, { backchannel_logout_uri: uriOf('audited') })
    await patch('audited', {})
    await patch('audited', { client_name: 'Audited', curfew: { enabled: false } })
    await patch('audited', { client_name: 'Refused', backchannel_logout_uri: 'http://x' })
    await call('DELETE', path)
    const entries = await auditOf(path)
    expect(entries.map(({ credential, action }) => [credential, action])).toEqual([
      ['admin', 'relying_party.created'],
      ['admin', 'relying_party.changed'],
      ['admin', 'relying_party.deleted'],
    ])
    const [created, changed, deleted] = entries
    expect(created?.detail.before).toBeNull()
    expect(changed?.detail.before).toEqual(created?.detail.after)
    expect(changed?.detail.after).toMatchObject({ client_name: 'Audited', status: { enabled: false } })
    expect(deleted?.detail).toEqual({ before: changed?.detail.after, after: null })
  })

  test('has no secrets', async () => {
    await register('discreet', { client_secret: 'hush-1', jwks: { keys: [{ kty: 'oct', k: 'hush-2' }] } })
    const { rows } = await curfew.db.query('select detail from audit')
    expect(JSON.stringify(rows)).not.toContain('hush-')
  })

  test('has issuers as well', async () => {
    const path = '/v1/issuers/noted'
    await call('PUT', path, { iss: 'https://noted.example' })
    await call('PUT', path, { iss: 'https://noted.example' })
    await call('PUT', path, { iss: 'https://noted.example', defaults: { concurrency: 3 } })
    await call('DELETE', path)
    expect(
      (await auditOf(path)).map(({ action, detail }) => [action, Object(detail.after).defaults ?? null]),
    ).toEqual([
      ['issuer.created', {}],
      ['issuer.changed', { concurrency: 3 }],
      ['issuer.deleted', null],
    ])
  })
})
