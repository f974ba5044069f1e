import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { withoutReferences } from '../support/openapi.ts'

// Goal: in every body, null means that an optional member is absent, and gives the same answer. Method: a body for each operation that
// has one. The operations and their members come from the OpenAPI document, so that a new one needs its case here.

interface Schema {
  readonly type?: string | readonly string[]
  readonly anyOf?: readonly Schema[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
}
type Content = Readonly<Record<string, { readonly schema?: Schema }>>
interface Document {
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, { readonly requestBody?: { readonly content: Content } }>>>
  >
}

/** The members in which null is not absence. The reference names them: docs/reference/requests.md. */
const MEANINGS = new Set(['every_days', 'sessions', 'relying_parties'])
/** Operations without optional members: a JSON Merge Patch, in which null removes; lines; and the forms of the relay. */
const OTHERS = new Set([
  'patch /v1/issuers/{issuer}/relying-parties/{client_id}',
  'post /v1/issuers/{issuer}/relying-parties/import',
  'post /relay/{issuer}/{client_id}',
  'put /v1/issuers/{issuer}/relying-parties/{client_id}/probe/session',
  // Their bodies have no members.
  'post /v1/quarantine/{id}/requeue',
  'post /v1/webhooks/{name}/test',
])

const URI = 'https://127.0.0.1:1/logout'
const HOUR_MS = 3_600_000
const EXPIRES = new Date(Date.now() + HOUR_MS).toISOString()
const EVENT = { id: '01938c2e-0000-7000-8000-00000000000a', iss: ISS, sub: 'alice' }
const PARTY = `/v1/issuers/${ISSUER}/relying-parties/shop`

let curfew: Curfew
let schemas: ReadonlyMap<string, Schema>
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  await curfew.client.putRelyingParty(ISSUER, 'shop', {
    backchannel_logout_uri: URI,
    curfew: { confirmation_uri: 'https://127.0.0.1:1/confirmations' },
  })
  const document = withoutReferences(await (await curfew.call('GET', '/openapi.json')).json()) as Document
  schemas = new Map(
    Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { requestBody }]) => {
        const schema = requestBody?.content['application/json']?.schema
        return schema === undefined ? [] : [[`${method} ${path}`, schema] as const]
      }),
    ),
  )
})
afterAll(() => curfew.stop())

const CLIENT_OPERATION = 'post /v1/issuers/{issuer}/relying-parties/{client_id}'

/** Operations with a path and a body that has objects wherever the schema does, so that their members are reached too. */
const CASES: readonly (readonly [operation: string, path: string, body: () => object])[] = [
  ['post /v1/logout-events', '/v1/logout-events', () => EVENT],
  ['post /v1/logout-events', '/v1/logout-events', () => [EVENT, EVENT]],
  [
    'post /v1/sessions',
    '/v1/sessions',
    () => ({ iss: ISS, sub: 'alice', sid: 's1', client_id: 'shop', expires_at: EXPIRES }),
  ],
  [
    'post /v1/sessions',
    '/v1/sessions',
    () => ({
      ...{ iss: ISS, sub: 'alice', sid: 's2', client_id: 'shop', expires_at: EXPIRES },
      revocation: [{ token: 'a token' }],
    }),
  ],
  ['put /v1/issuers/{issuer}', '/v1/issuers/nulls', () => ({ iss: 'https://nulls.example', sla: SLA })],
  [
    'put /v1/issuers/{issuer}',
    '/v1/issuers/nulls',
    () => ({ iss: 'https://nulls.example', quotas: {}, defaults: { timeout_ms: 500 } }),
  ],
  [
    'put /v1/issuers/{issuer}/relying-parties/{client_id}',
    PARTY,
    () => ({
      backchannel_logout_uri: URI,
      curfew: {
        tls: {},
        sla: {},
        endpoints: [{ name: 'eu', uri: `${URI}/eu` }],
        channels: {
          backchannel: { sla: { counts: 'done' } },
          revocation: { revocation_endpoint: 'https://127.0.0.1:1/revoke', method: 'none' },
          admin: {
            subject: [
              { method: 'POST', uri: 'https://127.0.0.1:1/{sub}', success: [204], body: { all: true } },
            ],
            ...{ auth: { prefix: 'Key ' }, secret: 'hush' },
          },
        },
      },
    }),
  ],
  ['put /v1/issuers/{issuer}/relying-parties/{client_id}', PARTY, () => ({ backchannel_logout_uri: URI })],
  [
    'put /v1/issuers/{issuer}/resource-servers/{client_id}',
    `/v1/issuers/${ISSUER}/resource-servers/nulls-api`,
    () => ({ sla: {} }),
  ],
  ['put /v1/webhooks/{name}', '/v1/webhooks/siem', () => ({ url: 'https://127.0.0.1:1/hook' })],
  ['post /v1/api-keys', '/v1/api-keys', () => ({ name: `key ${++made}`, scopes: ['clients:read'] })],
  ['post /v1/dead-letters/replay', '/v1/dead-letters/replay', () => ({ filter: { client_id: 'shop' } })],
  [`${CLIENT_OPERATION}/confirmations/rotate-secret`, `${PARTY}/confirmations/rotate-secret`, () => ({})],
  [`${CLIENT_OPERATION}/probe`, `${PARTY}/probe`, () => ({})],
  [
    'put /v1/issuers/{issuer}/relying-parties/{client_id}/audit',
    `${PARTY}/audit`,
    () => ({
      login: { kind: 'http', url: 'https://127.0.0.1:1/hook', method: 'POST' },
      check: {
        url: 'https://127.0.0.1:1/me',
        logged_in: { status: [200] },
        logged_out: { status: [401] },
      },
    }),
  ],
  ['post /v1/audits', '/v1/audits', () => ({ issuer: ISSUER })],
  ['post /v1/webhooks/{name}/rotate-secret', '/v1/webhooks/siem/rotate-secret', () => ({})],
  ['post /v1/issuers/{issuer}/keys', `/v1/issuers/${ISSUER}/keys`, () => ({ alg: 'ES256' })],
  ['post /v1/issuers/{issuer}/keys/rotate', `/v1/issuers/${ISSUER}/keys/rotate`, () => ({})],
  // The key does not exist: both bodies are taken, and then both requests fail in the same way.
  ['post /v1/issuers/{issuer}/keys/{kid}/retire', `/v1/issuers/${ISSUER}/keys/unknown/retire`, () => ({})],
]
const SLA = { within_ms: 1_000, objective: 0.9 }
let made = 0

describe('a body with null for each absent optional member gets the answer of the body without', () => {
  test.each(CASES)('%s (%s)', async (operation, path, body) => {
    const schema = schemas.get(operation)
    if (schema === undefined) throw new Error(`the document has no body of ${operation}`)
    const method = operation.split(' ', 1).join().toUpperCase()
    const plain = await answerOf(method, path, body())
    const given = withNulls(schema, body())
    expect(JSON.stringify(given)).toContain('null')
    const again = await answerOf(method, path, given)
    expect(plain.status, JSON.stringify(plain.body)).not.toBe(400)
    expect(again).toEqual(plain)
  })
})

test('every operation with a body has a case', () => {
  const covered = new Set(CASES.map(([operation]) => operation))
  expect([...schemas.keys()].filter((each) => !covered.has(each) && !OTHERS.has(each))).toEqual([])
})

test.each([
  ['POST', '/v1/logout-events', { iss: null, sub: 'alice' }, '/iss'],
  ['POST', '/v1/sessions', { iss: ISS, sub: null, sid: 's', client_id: 'shop', expires_at: null }, '/sub'],
  ['PUT', '/v1/webhooks/siem', { url: null }, '/url'],
  [
    'PUT',
    PARTY,
    { backchannel_logout_uri: URI, curfew: { endpoints: [{ name: null, uri: URI }] } },
    '/curfew/endpoints/0/name',
  ],
])('%s %s refuses null in a required member, and names it', async (method, path, body, pointer) => {
  const { status, body: problem } = await answerOf(method, path, body)
  expect(status).toBe(400)
  expect((problem as { errors: unknown }).errors).toEqual([{ pointer, detail: 'must be a string' }])
})

test('the same event with and without null is the same content', async () => {
  const event = { ...EVENT, id: '01938c2e-0000-7000-8000-00000000000b' }
  expect((await curfew.call('POST', '/v1/logout-events', event)).status).toBe(202)
  const withNull = { ...event, sid: null, reason: null, clients: null }
  expect((await curfew.call('POST', '/v1/logout-events', withNull)).status).toBe(202)
  expect((await curfew.call('POST', '/v1/logout-events', { ...event, reason: 'user' })).status).toBe(409)
})

test('metadata that Curfew does not use keeps its nulls, and a patch with null removes a member', async () => {
  const path = `/v1/issuers/${ISSUER}/relying-parties/kept`
  const metadata = { backchannel_logout_uri: `${URI}/kept`, policy_uri: null, attributes: { a: null } }
  const settings = { timeout_ms: 500, rate_per_second: null, endpoints: null }
  const put = await answerOf('PUT', path, { ...metadata, client_name: null, curfew: settings })
  expect(put.body).toMatchObject({ ...metadata, curfew: { timeout_ms: 500 } })
  expect(put.body).not.toHaveProperty('client_name')
  const patched = await answerOf('PATCH', path, {
    policy_uri: null,
    curfew: { timeout_ms: null, endpoints: [{ name: 'eu', uri: `${URI}/kept/eu`, enabled: null }] },
  })
  expect(patched.body).not.toHaveProperty('policy_uri')
  expect(patched.body).toHaveProperty('curfew', { endpoints: [{ '~': '~', uri: `${URI}/kept/eu` }] })
})

test('an import stores no null of a setting', async () => {
  const client = {
    client_id: 'imported',
    backchannel_logout_uri: URI.replace('logout', 'i'),
    curfew: { timeout_ms: null },
  }
  const answer = await curfew.call(
    'POST',
    `/v1/issuers/${ISSUER}/relying-parties/import`,
    `${JSON.stringify(client)}\n`,
    { 'content-type': 'application/x-ndjson' },
  )
  expect(answer.status).toBe(200)
  expect((await curfew.client.getRelyingParty(ISSUER, 'imported')).curfew).toEqual({})
})

/** The value with null for each optional member that it lacks. */
function withNulls(schema: Schema, value: unknown): unknown {
  const { anyOf, items, properties, required = [] } = schema
  if (anyOf !== undefined) {
    const type = Array.isArray(value) ? 'array' : 'object'
    return withNulls(
      anyOf.find((branch) => branch.type === type || [branch.type].flat().includes(type)) ?? {},
      value,
    )
  }
  if (Array.isArray(value)) return value.map((item) => withNulls(items ?? {}, item))
  if (typeof value !== 'object' || value === null || properties === undefined) return value
  const given = value as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, part]) => {
      if (given[name] !== undefined) return [[name, withNulls(part, given[name])]]
      return required.includes(name) || MEANINGS.has(name) ? [] : [[name, null]]
    }),
  )
}

/** Sends a body. The parts of the answer that differ each time are replaced. */
async function answerOf(method: string, path: string, body: unknown) {
  const response = await curfew.call(method, path, body)
  const text = (await response.text())
    .replaceAll(
      /"(?:[a-z_]+_(?:at|from|until)|key|hint|id|kid|name|self|secret|confirmation_secret|trace_id|location|x|y|thumbprint|state)":"[^"]*"/g,
      '"~":"~"',
    )
    .replaceAll(/"duration_ms":\d+/g, '"~":0')
    .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '~')
  const status = response.status === 201 ? 200 : response.status
  return { status, body: JSON.parse(text) as unknown }
}
