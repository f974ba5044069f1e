import { randomBytes } from 'node:crypto'
import { ApiKey, ApiKeyInput, NewApiKey, PageQuery, page, type Scope } from '@curfew/contract'
import {
  type ApiKeyRecord,
  createApiKey,
  type Database,
  findApiKey,
  findIssuer,
  listApiKeys,
  revokeApiKey,
} from '@curfew/ledger'
import {
  callerOf,
  type Fault,
  type HttpServer,
  hashApiKey,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid, readTime, UUID } from '../http/query.ts'

/** Only unbound admins, because a caller that creates keys could create one with every right. */
const ACCESS = { scope: 'admin', access: 'unbound' } satisfies RouteAccess<Scope>
const Params = Type.Object({ id: Type.String({ maxLength: 64 }) })
/** Names of the credentials from the environment. No API key may have them, so that the audit log is unambiguous. */
const RESERVED = new Set(['admin', 'demo', 'curfew'])
const HINT_LENGTH = 10

export interface ApiKeysDeps {
  readonly pages: Pages
  readonly db: Database
  /** Makes a new UUID from the time. */
  readonly newId: () => string
  readonly now: () => Date
}

/** `/v1/api-keys`: the API keys. */
export function registerApiKeys(server: HttpServer, { db, pages, newId, now }: ApiKeysDeps): void {
  server.post(
    '/v1/api-keys',
    {
      config: ACCESS,
      schema: {
        operationId: 'createApiKey',
        tags: ['Access'],
        summary: 'Create an API key. Only this answer has the key itself.',
        body: ApiKeyInput,
        response: { 201: NewApiKey },
      },
    },
    async (request, reply) => {
      const { name, scopes, issuer = null, clients = null, requests_per_second = null } = request.body
      const expiresAt = readTime(request.body.expires_at, '/expires_at', 'body')
      const faults: Fault[] = []
      if (RESERVED.has(looksLike(name)))
        faults.push({ pointer: '/name', detail: 'is reserved for Curfew: choose another name' })
      if (clients !== null && issuer === null)
        faults.push({
          pointer: '/issuer',
          detail: 'is required with clients, because clients belong to an issuer',
        })
      if (issuer !== null && (await findIssuer(db, issuer)) === null)
        faults.push({ pointer: '/issuer', detail: 'is not the name of a registered issuer' })
      if (expiresAt !== null && expiresAt <= now())
        faults.push({ pointer: '/expires_at', detail: 'must be in the future' })
      if (faults.length > 0) {
        throw new ProblemError({
          status: 400,
          title: 'Invalid API key',
          detail: 'No key was created. Correct the faults in errors and send the request again.',
          errors: faults,
        })
      }
      const key = `cfw_${randomBytes(32).toString('base64url')}`
      const record = await createApiKey(db, {
        id: newId(),
        name,
        hash: hashApiKey(key),
        hint: key.slice(0, HINT_LENGTH),
        scopes: [...new Set(scopes)],
        issuer,
        clients,
        requestsPerSecond: requests_per_second,
        expiresAt,
        createdBy: callerOf(request).name,
      })
      if (record === null) {
        throw new ProblemError({
          status: 409,
          title: 'Name in use',
          detail: 'Another key has this name. Revoke that key first, or choose another name.',
          errors: [{ pointer: '/name', detail: 'is the name of another key' }],
        })
      }
      const view = apiKeyView(record)
      return reply
        .code(201)
        .header('location', view.links.self)
        .send({ ...view, key })
    },
  )

  server.get(
    '/v1/api-keys',
    {
      config: ACCESS,
      schema: {
        operationId: 'listApiKeys',
        tags: ['Access'],
        summary: 'List API keys, including revoked keys, the latest first.',
        querystring: PageQuery,
        response: { 200: page(ApiKey) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !UUID.test(before)) throw invalid('/cursor', 'is not a cursor of this list')
      const records = await listApiKeys(db, { before, limit: limit + 1 })
      return pageOf(records, limit, ({ id }) => id, apiKeyView)
    },
  )

  server.get(
    '/v1/api-keys/:id',
    {
      config: ACCESS,
      schema: {
        operationId: 'getApiKey',
        tags: ['Access'],
        summary: 'Get an API key, without the key itself.',
        params: Params,
        response: { 200: ApiKey },
      },
    },
    async ({ params: { id } }) => apiKeyView(foundOr404(UUID.test(id) ? await findApiKey(db, id) : null)),
  )

  server.delete(
    '/v1/api-keys/:id',
    {
      config: ACCESS,
      schema: {
        operationId: 'revokeApiKey',
        tags: ['Access'],
        summary: 'Revoke an API key. Other processes refuse it within a few seconds.',
        params: Params,
        response: { 200: ApiKey },
      },
    },
    async (request) => {
      const { id } = request.params
      const revokedBy = callerOf(request).name
      return apiKeyView(foundOr404(UUID.test(id) ? await revokeApiKey(db, { id, revokedBy }) : null))
    },
  )
}

/** The lower-case letters and digits of a name, so that names that look alike are equal. */
function looksLike(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '')
}

function foundOr404(record: ApiKeyRecord | null): ApiKeyRecord {
  if (record !== null) return record
  throw new ProblemError({
    status: 404,
    title: 'No such API key',
    detail: 'No API key has this id. The id is not the key itself: GET /v1/api-keys lists the ids.',
  })
}

function apiKeyView(record: ApiKeyRecord): ApiKey {
  return {
    id: record.id,
    name: record.name,
    hint: record.hint,
    scopes: [...record.scopes],
    issuer: record.issuer,
    clients: record.clients === null ? null : [...record.clients],
    requests_per_second: record.requestsPerSecond,
    created_at: record.createdAt.toISOString(),
    created_by: record.createdBy,
    expires_at: record.expiresAt?.toISOString() ?? null,
    revoked_at: record.revokedAt?.toISOString() ?? null,
    revoked_by: record.revokedBy,
    last_used_at: record.lastUsedAt?.toISOString() ?? null,
    links: { self: `/v1/api-keys/${record.id}` },
  }
}
