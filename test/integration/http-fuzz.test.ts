import { SCOPES } from '@curfew/contract'
import type { AccessFilter, ClientId, Issuer, IssuerName } from '@curfew/domain'
import { quarantine } from '@curfew/ledger'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { withoutReferences } from '../support/openapi.ts'

// Goal: no request makes Curfew answer 5xx, however wrong it is, and every refusal is a problem document (RFC 9457).
// Method: requests to each operation that OpenAPI documents, generated from its schema and then spoiled, with a fixed seed.

// To try another seed and more requests per operation by hand: FUZZ_SEED=7 FUZZ_RUNS=1000.
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_121)
const PER_OPERATION = Number(process.env.FUZZ_RUNS ?? 60)
const AT_ONCE = 8
const CLIENT = 'shop'
const SERVER = 'orders-api'
const WEBHOOK = 'siem'

interface Schema {
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
}
interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema?: Schema }>> }
  readonly responses: Readonly<Record<string, unknown>>
}
interface Sent {
  readonly method: string
  readonly path: string
  readonly narrow: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array | undefined
}

let curfew: Curfew
let operations: readonly { readonly method: string; readonly path: string; readonly operation: Operation }[]
let narrowKey: string
const known = { event: '', delivery: '', key: '', kid: '', erasure: '', record: '' }

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  const access: AccessFilter = {
    kind: 'clients',
    issuer: ISSUER as IssuerName,
    iss: ISS as Issuer,
    clients: new Set([CLIENT as ClientId]),
  }
  narrowKey = curfew.keyBoundTo(access, ...SCOPES)
  await restore()
  known.event = (await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })).id
  known.delivery =
    (await curfew.client.getLogoutEvent(known.event, { wait: 5 })).deliveries[0]?.id ?? known.event
  known.key = (await curfew.client.createApiKey({ name: 'fuzz', scopes: ['clients:read'] })).id
  known.kid = (await curfew.client.listKeys(ISSUER)).items[0]?.kid ?? ''
  known.erasure = (await curfew.client.eraseSubject(ISSUER, 'unknown')).id
  const poison = {
    lane: 'interactive',
    key: 'k',
    value: new Uint8Array(),
    headers: {},
    position: '0/1',
  } as const
  await quarantine(curfew.db, [{ record: poison, kind: 'unreadable', reason: 'a test' }])
  known.record = (await curfew.client.listQuarantined()).items[0]?.id ?? ''
  const document = withoutReferences(await (await curfew.call('GET', '/openapi.json')).json()) as {
    readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  }
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  )
})
afterAll(() => curfew.stop())

/** Restores the objects that the previous operation may have removed. */
async function restore(): Promise<void> {
  await curfew.client.putIssuer(ISSUER, { iss: ISS })
  await curfew.client.putRelyingParty(ISSUER, CLIENT, {
    backchannel_logout_uri: 'https://127.0.0.1:1/logout',
    curfew: { timeout_ms: 100, retry_schedule_ms: [] },
  })
  await curfew.client.putResourceServer(ISSUER, SERVER)
  await curfew.client.putWebhook(WEBHOOK, { url: 'https://127.0.0.1:1/hook' })
}

/** The operations that accept no arbitrary request: they need a signature, a secret, or an object that no request here makes. */
const NEVER_TAKEN = new Set([
  'POST /relay/{issuer}/{client_id}',
  'POST /v1/issuers/{issuer}/relying-parties/{client_id}/confirmations/rotate-secret',
  ...['GET /v1/issuer-logouts/{id}', 'DELETE /v1/issuer-logouts/{id}', 'GET /v1/audits/{id}'],
  ...['GET /v1/replays/{id}', 'DELETE /v1/replays/{id}', 'GET /v1/dead-letters/{id}'],
])

test('no request is answered 5xx, and every refusal is a document that its caller can read', {
  timeout: Math.max(120_000, PER_OPERATION * 2_000),
}, async () => {
  expect(operations.length).toBeGreaterThan(50)
  const wrong: string[] = []
  const taken = new Set<string>()
  for (const [index, { method, path, operation }] of operations.entries()) {
    await restore()
    const requests = fc.sample(requestOf(method, path, operation), {
      numRuns: PER_OPERATION,
      seed: SEED + index,
    })
    const waiting = [...requests]
    const worker = async () => {
      for (let sent = waiting.shift(); sent !== undefined; sent = waiting.shift()) {
        const { status, fault } = await answerTo(sent)
        if (status < 400) taken.add(`${method} ${path}`)
        if (fault !== null) wrong.push(`${fault} ${sent.method} ${sent.path.slice(0, 300)} ${shown(sent)}`)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
  }
  expect(wrong).toEqual([])
  // A refused request tests only the validation. So most operations must accept some of their requests.
  const refused = operations
    .map(({ method, path }) => `${method} ${path}`)
    .filter((each) => !taken.has(each) && !NEVER_TAKEN.has(each))
  expect(refused.length, `never accepted: ${refused.join(', ')}`).toBeLessThan(operations.length / 5)
})

/** Sends a request. @returns its status, and what is wrong with the answer or null. */
async function answerTo({
  method,
  path,
  narrow,
  headers,
  body,
}: Sent): Promise<{ status: number; fault: string | null }> {
  const response = await curfew.call(method, path, body, {
    ...(narrow && { authorization: `Bearer ${narrowKey}` }),
    ...headers,
  })
  const text = await response.text()
  const fault = path.startsWith('/relay/') ? relayFaultOf(response, text) : faultOf(response, text)
  return { status: response.status, fault }
}

/** The relay answers identity providers, which read only errors of OAuth. */
function relayFaultOf(response: Response, text: string): string | null {
  const { status } = response
  const type = response.headers.get('content-type')
  // Before the path is parsed, no route is known.
  if (status < 400 || type?.startsWith('application/problem+json') === true) return faultOf(response, text)
  const { error, error_description }: Record<string, unknown> = JSON.parse(text)
  const isOfOauth = typeof error === 'string' && typeof error_description === 'string'
  return status < 500 && type === 'application/json' && isOfOauth
    ? null
    : `${status} of type ${type}: ${text}`
}

function faultOf(response: Response, text: string): string | null {
  const { status } = response
  // A 503 is allowed if it says when to retry.
  if (status === 503 && response.headers.has('retry-after')) return null
  if (status >= 500) return `${status}: ${text.slice(0, 200)}`
  if (status < 400) return null
  const type = response.headers.get('content-type')
  if (type?.startsWith('application/problem+json') !== true) return `${status} of type ${type}`
  const problem = JSON.parse(text) as { readonly status?: unknown; readonly title?: unknown }
  return problem.status === status && typeof problem.title === 'string'
    ? null
    : `${status} without a valid problem document: ${text}`
}

function shown({ headers, body, narrow }: Sent): string {
  const text = body instanceof Uint8Array ? Buffer.from(body).toString('latin1') : body
  return `${JSON.stringify(headers)} ${narrow ? 'narrow' : 'admin'} ${text?.slice(0, 600) ?? 'no body'}`
}

// --- Requests -----------------------------------------------------------------------------------------------------

const TIMES = [
  '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999Z',
  '9999-12-31T23:59:59.999999999-23:59',
  '-000001-01-01T00:00:00Z',
  '+275760-09-13T00:00:00Z',
  '2026-02-30T00:00:00Z',
  '2026-11-21T25:61:61Z',
  '2026-11-21T05:00:00.000Z',
  '2026-11-21',
]
const TEXTS = [
  ...[
    '',
    ' ',
    '\0',
    'a\0b',
    '\ud800',
    'x\udfff',
    '\u202e',
    '😀',
    '%',
    '%00',
    '..',
    '/',
    '\\',
    "'; --",
    '"',
    '{}',
  ],
  ...[
    '-1',
    '0',
    '1e309',
    'NaN',
    '99999999999999999999',
    '9223372036854775808',
    '2147483648',
    '32768',
    'null',
  ],
  ...['eyJhIjoxfQ', 'MA', 'x'.repeat(300), 'x'.repeat(5_000), '__proto__', 'constructor'],
  ...['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
]
const NUMBERS = [0, -0, -1, 1, 0.5, 32_767, 32_768, 2 ** 31, 2 ** 53, 2 ** 63, 1e21, 1e308, -1e308, 5e-324]

const hostileText = fc.oneof(
  fc.constantFrom(...TEXTS),
  fc.constantFrom(...TIMES),
  fc.string({ unit: 'binary', maxLength: 40 }),
)
const deep = Array.from({ length: 100 }).reduce<unknown>((inner) => [inner], 1)
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.constantFrom<unknown>(...NUMBERS, null, true, false, [], {}, [null], [[]], { '': '' }, deep),
  fc.array(hostileText, { maxLength: 3 }),
)

/** Generates values that a schema allows: its bounds, and objects that exist here. */
function valid(schema: Schema, name = ''): fc.Arbitrary<unknown> {
  const { type, enum: values, anyOf = schema.oneOf, allOf } = schema
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (values !== undefined) return fc.constantFrom(...values)
  if (anyOf !== undefined) return fc.oneof(...anyOf.map((each) => valid(each, name)))
  if (allOf !== undefined)
    return fc.tuple(...allOf.map((each) => valid(each, name))).map((parts) => Object.assign({}, ...parts))
  if (Array.isArray(type)) return fc.oneof(...type.map((one) => valid({ ...schema, type: one }, name)))
  switch (type) {
    case 'string':
      return text(schema, name)
    case 'integer':
    case 'number':
      return fc.constantFrom(...numbersOf(schema))
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array': {
      const { minItems = 0, maxItems = 3 } = schema
      return fc.array(valid(schema.items ?? {}, name), {
        minLength: minItems,
        maxLength: Math.max(minItems, Math.min(3, maxItems)),
      })
    }
    case 'object':
      return object(schema)
    default:
      return fc.jsonValue({ maxDepth: 2 })
  }
}

/** The bounds of a number, and a number between them. */
function numbersOf(schema: Schema): readonly number[] {
  const { minimum = schema.exclusiveMinimum ?? 0, maximum = schema.exclusiveMaximum ?? minimum + 1_000 } =
    schema
  const between = schema.type === 'integer' ? Math.floor((minimum + maximum) / 2) : (minimum + maximum) / 2
  const bounds = schema.exclusiveMinimum === undefined && schema.exclusiveMaximum === undefined
  return bounds ? [minimum, between, maximum] : [between]
}

/** Generates texts by the meaning of their name. Other names go by their pattern. */
function text({ pattern, minLength = 0, maxLength = 64 }: Schema, name: string): fc.Arbitrary<unknown> {
  const often = (usual: string, ...others: readonly string[]) =>
    fc.oneof(
      { weight: 6, arbitrary: fc.constant(usual) },
      { weight: 1, arbitrary: fc.constantFrom(usual, ...others) },
    )
  if (name === 'iss') return often(ISS, 'https://other.example')
  if (name === 'issuer') return often(ISSUER, 'other')
  if (name === 'name') return fc.oneof(fc.constant(WEBHOOK), fc.stringMatching(/^[a-z]{1,20}$/))
  if (name === 'client_id' || name === 'clients' || name === 'initiator')
    return often(CLIENT, SERVER, 'unknown')
  if (name === 'kid') return often(known.kid, 'unknown')
  if (name === 'allowed_networks') return often('127.0.0.0/8', '10.0.0.0/8', 'x')
  if (name === 'id' || name.endsWith('_id')) return fc.constantFrom(...Object.values(known))
  if (name === 'expires_at') return often(new Date(Date.now() + 3_600_000).toISOString(), ...TIMES)
  if (/(?:^|_)(?:at|from|to|since|until|before|after)$/.test(name))
    return often(new Date().toISOString(), ...TIMES)
  if (/ur[il]$/.test(name)) return often('https://127.0.0.1:1/x', 'https://[::1]:1/', 'http://10.0.0.1/')
  if (pattern !== undefined) {
    const matching = fc.stringMatching(new RegExp(pattern, 'u'))
    return matching.map((each) => each.slice(0, maxLength))
  }
  return fc.string({ minLength, maxLength: Math.min(maxLength, minLength + 20) })
}

function object({ properties = {}, required = [], additionalProperties }: Schema): fc.Arbitrary<unknown> {
  const optional = Object.keys(properties).filter((name) => !required.includes(name))
  const members = (names: readonly string[]) =>
    fc.record(
      Object.fromEntries(
        names.flatMap((name) =>
          properties[name] === undefined ? [] : [[name, valid(properties[name], name)]],
        ),
      ),
    )
  // Few at once, because several invalid members would hide one another.
  const declared = fc
    .oneof(fc.subarray(optional, { maxLength: Math.min(2, optional.length) }), fc.subarray(optional))
    .chain((some) => members([...required, ...some]))
  if (typeof additionalProperties !== 'object') return declared
  return fc
    .tuple(
      declared,
      fc.dictionary(
        hostileText.filter((name) => name !== '__proto__'),
        valid(additionalProperties),
        { maxKeys: 2 },
      ),
    )
    .map(([some, more]) => ({ ...more, ...some }))
}

/** The same value with one of its parts spoiled, removed or added. */
function spoiled(value: unknown, bad: unknown, at: number): unknown {
  if (typeof value !== 'object' || value === null) return bad
  const names = Object.keys(value)
  const place = at % (names.length + 2)
  if (place === names.length) return bad
  const name = names[place]
  if (Array.isArray(value))
    return value.map((each, index) => (index === place ? spoiled(each, bad, at >> 3) : each))
  if (name === undefined) return { ...value, extra: bad }
  const { [name]: inner, ...others } = value as Record<string, unknown>
  return at % 7 === 0 ? others : { ...others, [name]: spoiled(inner, bad, at >> 3) }
}

/** Generates requests to an operation, some as its schema says and some with faults. */
function requestOf(method: string, path: string, operation: Operation): fc.Arbitrary<Sent> {
  const { parameters = [], requestBody } = operation
  const texts = (schema: Schema, name: string) =>
    fc.oneof({ weight: 3, arbitrary: valid(schema, name).map(String) }, { weight: 2, arbitrary: hostileText })
  const inPath = parameters.filter((each) => each.in === 'path')
  const inQuery = parameters.filter((each) => each.in === 'query')
  // Long waits are not tested here.
  const queryOf = ({ name, schema }: (typeof inQuery)[number]) =>
    name === 'wait' ? fc.constantFrom('0', '-1', 'x', '1e9', '31') : texts(schema, name)
  const [type = '', { schema = {} } = {}] = Object.entries(requestBody?.content ?? {})[0] ?? []
  const document = fc
    .tuple(valid(schema), hostile, fc.nat(), fc.integer({ min: 0, max: 1 }))
    .map(([good, bad, at, fault]) => (fault === 0 ? good : spoiled(good, bad, at)))
  const lines = fc.array(fc.oneof(document, hostile), { maxLength: 3 })
  const written = type.endsWith('ndjson')
    ? lines.map((each) => each.map((line) => `${JSON.stringify(line)}\n`).join(''))
    : document.map((each) => JSON.stringify(each))
  const broken = fc.oneof(
    fc.constantFrom<string | Uint8Array>(
      '',
      '{',
      '[1,',
      'null',
      '[]',
      '{"a":1,"a":2}',
      Buffer.from([0xff, 0xfe, 0x7b]),
    ),
    hostile.map((each) => JSON.stringify(each)),
  )
  const body: fc.Arbitrary<string | Uint8Array | undefined> =
    requestBody === undefined
      ? fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: broken })
      : fc.oneof(
          { weight: 6, arbitrary: written },
          { weight: 2, arbitrary: broken },
          { weight: 1, arbitrary: fc.constant(undefined) },
        )
  return fc
    .record({
      parts: fc.tuple(...inPath.map(({ name, schema: each }) => texts(each, name))),
      query: fc.tuple(...inQuery.map((each) => fc.option(queryOf(each), { freq: 2 }))),
      further: fc.option(fc.tuple(hostileText, hostileText), { freq: 1, nil: null }),
      odd: fc.integer({ min: 0, max: 9 }),
      narrow: fc.boolean(),
      contentType: fc.oneof(
        { weight: 8, arbitrary: fc.constant(type === '' ? 'application/json' : type) },
        {
          weight: 1,
          arbitrary: fc.constantFrom(
            'text/plain',
            'application/json',
            'application/x-ndjson',
            'x',
            'multipart/form-data',
          ),
        },
      ),
      more: fc.constantFrom<Readonly<Record<string, string>>>(
        ...[
          {},
          {},
          {},
          { 'if-match': '*' },
          { 'if-match': '"x"' },
          { 'if-none-match': '*' },
          { 'if-match': 'W/"1", ' },
        ],
        ...[
          { accept: 'application/x-ndjson' },
          { 'content-encoding': 'gzip' },
          { traceparent: '00-x' },
          { authorization: 'Basic x' },
        ],
      ),
      body,
    })
    .map(({ parts, query, further, odd, narrow, contentType, more, body: given }) => {
      const named = inPath.reduce(
        (made, { name }, index) => made.replace(`{${name}}`, encoded(parts[index] ?? '')),
        path,
      )
      const pairs = inQuery.flatMap(({ name }, index) => {
        const value = query[index]
        return value === null || value === undefined ? [] : [`${name}=${encoded(value)}`]
      })
      // An unknown parameter, or one that occurs twice.
      if (odd === 0 && further !== null) pairs.push(further.map(encoded).join('='))
      if (odd === 1 && pairs[0] !== undefined) pairs.push(pairs[0])
      const sendable = method === 'GET' || method === 'HEAD' ? undefined : given
      return {
        method,
        path: `${named}${pairs.length === 0 ? '' : `?${pairs.join('&')}`}`,
        narrow,
        headers: { ...((sendable !== undefined || odd === 2) && { 'content-type': contentType }), ...more },
        body: sendable,
      }
    })
}

/** Percent-encodes a value. Half a surrogate pair becomes bytes. Dots are encoded, because clients resolve dot segments. */
function encoded(value: string): string {
  if (/^\.{1,2}$/.test(value)) return '%2E'.repeat(value.length)
  if (value.isWellFormed()) return encodeURIComponent(value)
  return value.replaceAll(/[\ud800-\udfff]/gu, '%ED%A0%80').replaceAll(/[^\w%]/g, '')
}
