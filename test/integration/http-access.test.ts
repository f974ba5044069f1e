import { SCOPES, type Scope } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew, type Route } from '../support/curfew.ts'
import { withoutReferences } from '../support/openapi.ts'

// Goal: every route, also a future one, refuses a caller whose key lacks its scope. The service documents itself correctly.
// Method: the server lists its registered routes.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
})
afterAll(() => curfew.stop())

const PUBLIC = [
  '/relay/*',
  'GET /issuers/:issuer/jwks.json',
  'GET /v1/log/keys',
  'HEAD /issuers/:issuer/jwks.json',
  'HEAD /v1/log/keys',
  'POST /relay/:issuer/:client_id',
]
/** Routes that any valid credential may call. */
const ANY = ['GET /v1/credential', 'HEAD /v1/credential']
/** The relay answers other methods and paths in the form that identity providers read. The document leaves them out. */
const isRest = ({ path }: { readonly path: string }) => path === '/relay/*'

const nameOf = ({ method, path }: Route) => `${method} ${path}`
const guarded = () => curfew.routes.filter(({ scope }) => scope !== 'public')
const scoped = () => guarded().filter(({ scope }) => scope !== 'any')

/** Calls a route with some parameters and an invalid body. A caller without access must not learn about the body. */
function call({ method, path }: Route, authorization: string | null): Promise<Response> {
  const url = new URL(path.replaceAll(/:\w+/g, 'some'), curfew.url)
  const body = ['POST', 'PUT', 'PATCH'].includes(method) ? '{"no' : null
  return fetch(url, {
    method,
    headers: { 'content-type': 'application/json', ...(authorization !== null && { authorization }) },
    body,
  })
}

describe('every route', () => {
  test('is public, or open to any credential, only if it is listed here', () => {
    expect(curfew.routes.length).toBeGreaterThan(10)
    const open = curfew.routes.filter(({ scope }) => scope === 'public')
    expect(
      [...new Set(open.map((route) => (isRest(route) ? route.path : nameOf(route))))].toSorted(),
    ).toEqual(PUBLIC)
    const any = guarded().filter(({ scope }) => scope === 'any')
    expect(any.map(nameOf).toSorted()).toEqual(ANY)
    for (const { scope } of scoped()) expect(SCOPES).toContain(scope)
  })

  test('answers 401 with a challenge unless it knows the key', async () => {
    const key = curfew.adminKey
    const credentials: readonly (readonly [authorization: string | null, challenge: string])[] = [
      [null, 'Bearer'],
      ['', 'Bearer'],
      ['Bearer', 'Bearer'],
      ['Bearer ', 'Bearer'],
      [key, 'Bearer'],
      [`Basic ${Buffer.from(`admin:${key}`).toString('base64')}`, 'Bearer'],
      [`Bearer ${key} ${key}`, 'Bearer'],
      [`Bearer ${key.slice(0, -1)}`, 'Bearer error="invalid_token"'],
      [`Bearer ${key}x`, 'Bearer error="invalid_token"'],
      [`Bearer ${key.toLowerCase()}`, 'Bearer error="invalid_token"'],
      ['Bearer undefined', 'Bearer error="invalid_token"'],
    ]
    for (const route of guarded()) {
      for (const [authorization, challenge] of credentials) {
        const response = await call(route, authorization)
        const seen = [
          response.status,
          response.headers.get('www-authenticate'),
          response.headers.get('cache-control'),
        ]
        expect([nameOf(route), authorization, ...seen]).toEqual([
          nameOf(route),
          authorization,
          401,
          challenge,
          'no-store',
        ])
        expect(await response.text()).not.toContain(key.slice(4))
      }
    }
  })

  test('answers 403 with the missing scope to a key that has all others', async () => {
    for (const route of scoped()) {
      const key = curfew.keyFor(...SCOPES.filter((scope) => scope !== route.scope && scope !== 'admin'))
      const response = await call(route, `Bearer ${key}`)
      expect([nameOf(route), response.status, response.headers.get('www-authenticate')]).toEqual([
        nameOf(route),
        403,
        `Bearer error="insufficient_scope", scope="${route.scope}"`,
      ])
    }
  })

  test('accepts a key that has only its scope, in any spelling of Bearer', async () => {
    for (const route of guarded()) {
      const key = route.scope === 'any' ? curfew.keyFor() : curfew.keyFor(route.scope as Scope)
      for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
        const { status } = await call(route, `${scheme} ${key}`)
        expect([nameOf(route), [401, 403, 500].includes(status)]).toEqual([nameOf(route), false])
      }
    }
  })

  test('refuses unknown parameters instead of answering without a filter', async () => {
    for (const route of guarded().filter(({ method }) => method === 'GET')) {
      const path = `${route.path.replaceAll(/:\w+/g, 'some')}?no_such_parameter=1`
      const response = await curfew.call('GET', path)
      expect([path, response.status]).toEqual([path, 400])
    }
  })

  test('answers 4xx to hostile values in its path', async () => {
    for (const { method, path } of curfew.routes.filter((route) => route.path.includes(':'))) {
      for (const part of [
        '%00',
        '%ff',
        '%2e%2e',
        '%2f',
        "'",
        '%22%3b--',
        '%f0%9f%91%8b',
        'a'.repeat(2_000),
        '%5c',
      ]) {
        const target = path.replaceAll(/:\w+/g, part)
        // Clients resolve dot segments before they send a request. The result may be another route.
        const { pathname } = new URL(target, curfew.url)
        if (pathname !== target && curfew.routes.some((route) => route.path === pathname)) continue
        const response = await curfew.call(method, target, method === 'PUT' ? {} : undefined)
        expect([method, path, part, response.status >= 400 && response.status < 500]).toEqual([
          method,
          path,
          part,
          true,
        ])
      }
    }
  })
})

describe('/openapi.json', () => {
  interface Operation {
    readonly summary?: string
    readonly parameters?: readonly {
      readonly name: string
      readonly in: string
      readonly required?: boolean
      readonly schema?: object
    }[]
    readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: object }>> }
    readonly responses: Readonly<Record<string, { readonly description?: string; readonly content?: object }>>
    readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  }
  interface Document {
    readonly openapi: string
    readonly info: { readonly title?: string; readonly version?: string }
    readonly components: {
      readonly securitySchemes: Readonly<Record<string, { readonly type: string; readonly scheme: string }>>
    }
    readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  }
  let document: Document
  beforeAll(async () => {
    document = (await (await fetch(new URL('/openapi.json', curfew.url))).json()) as Document
  })

  test('is OpenAPI 3.1 and names itself', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/)
    expect(document.info).toMatchObject({
      title: expect.any(String),
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      description: expect.stringContaining('1048576 bytes'),
    })
    expect(document.components.securitySchemes.bearer).toMatchObject({ type: 'http', scheme: 'bearer' })
  })

  test('limits every text and list of a request body', () => {
    const unlimited: string[] = []
    const walk = (schema: unknown, path: string): void => {
      if (typeof schema !== 'object' || schema === null) return
      const { type, enum: values, pattern, maxLength, maxItems } = schema as Readonly<Record<string, unknown>>
      const limited =
        type === 'string'
          ? (values ?? pattern ?? maxLength) !== undefined
          : type !== 'array' || maxItems !== undefined
      if (!limited) unlimited.push(path)
      for (const [name, member] of Object.entries(schema)) walk(member, `${path}/${name}`)
    }
    for (const [path, operations] of Object.entries(withoutReferences(document).paths))
      for (const [method, { requestBody }] of Object.entries(operations))
        for (const { schema } of Object.values(requestBody?.content ?? {})) walk(schema, `${method} ${path}`)
    expect(unlimited).toEqual([])
  })

  test('describes every route with its scope, parameters and answers', () => {
    for (const route of curfew.routes.filter((each) => each.method !== 'HEAD' && !isRest(each))) {
      const path = route.path.replaceAll(/:(\w+)/g, '{$1}')
      const operation = document.paths[path]?.[route.method.toLowerCase()]
      if (operation === undefined) throw new Error(`${nameOf(route)} is not documented`)
      expect(operation.summary).toMatch(/\.$/)
      expect(operation.security).toEqual(
        route.scope === 'public' ? [] : [{ bearer: route.scope === 'any' ? [] : [route.scope] }],
      )
      const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
      expect(inPath.map(({ name }) => name).toSorted()).toEqual(
        [...route.path.matchAll(/:(\w+)/g)].map(([, name]) => name).toSorted(),
      )
      for (const parameter of operation.parameters ?? []) {
        expect(parameter.schema).toBeTypeOf('object')
        if (parameter.in === 'path') expect(parameter.required).toBe(true)
      }
      const bodies = Object.keys(operation.requestBody?.content ?? {})
      if (route.method === 'PATCH') expect(bodies).toContain('application/merge-patch+json')
      else if (route.path.startsWith('/relay/')) expect(bodies).toEqual(['application/x-www-form-urlencoded'])
      else if (route.path.endsWith('/import')) expect(bodies).toEqual(['application/x-ndjson'])
      else if (['PUT', 'POST'].includes(route.method)) expect(bodies).toEqual(['application/json'])
      const statuses = Object.keys(operation.responses)
      expect(statuses).toEqual(expect.arrayContaining(['4XX', '5XX']))
      expect(statuses.some((status) => /^2\d\d$/.test(status))).toBe(true)
      for (const response of Object.values(operation.responses))
        expect(response.description).toBeTypeOf('string')
    }
  })

  test('has only references that resolve', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(
      ([, reference = '']) => reference,
    )
    for (const reference of references) {
      expect(reference).toMatch(/^#\//)
      const found = reference
        .slice(2)
        .split('/')
        .reduce<unknown>((node, name) => Object(node)[name], document)
      expect(found).toBeTypeOf('object')
    }
  })
})

describe('health', () => {
  test('is public', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json']) {
      const response = await fetch(new URL(path, curfew.url))
      expect([path, response.status]).toEqual([path, 200])
    }
  })

  test('names unavailable dependencies, keeps the process alive, and recovers', async () => {
    await using own = await openCurfew({ workers: 0, appendTimeoutMs: 300 })
    await own.gate.shut()
    const ready = await fetch(new URL('/readyz', own.url))
    expect([ready.status, await ready.json()]).toEqual([
      503,
      {
        status: 'not ready',
        unavailable: ['event-log', 'ledger'],
        degraded: [],
        checks: ['event-log', 'ledger', 'master-key'],
        needs: { 'event-log': 'ledger' },
      },
    ])
    expect((await fetch(new URL('/healthz', own.url))).status).toBe(200)
    const asked = await own.call('GET', '/v1/issuers')
    expect([asked.status, asked.headers.get('retry-after')]).toEqual([503, '2'])
    await own.gate.open()
    expect((await fetch(new URL('/readyz', own.url))).status).toBe(200)
  })

  test('counts requests in metrics by route, never by path', async () => {
    await curfew.call('GET', '/v1/issuers/some-secret-name')
    await curfew.call('GET', '/no/such/some-secret-name')
    const text = await eventually(async () => {
      const metrics = await (await fetch(new URL('/metrics', curfew.url))).text()
      expect(metrics).toContain('route="/v1/issuers/:issuer"')
      return metrics
    })
    expect(text).not.toContain('some-secret-name')
  })
})
