import { hash } from 'node:crypto'
import type { FastifySchema } from 'fastify'
import { PUBLIC, type RouteAccess } from './access.ts'
import { PROBLEM_MEDIA_TYPE } from './problem.ts'

/** The OpenAPI document as it is served, written when it is first asked for: the routes are all there then, for good. */
export function createDocument(render: () => object): () => { readonly etag: string; readonly body: string } {
  let written: { readonly etag: string; readonly body: string } | null = null
  return () => {
    if (written === null) {
      const body = JSON.stringify(render())
      written = { etag: `"${hash('sha256', body, 'base64url')}"`, body }
    }
    return written
  }
}

/** What the OpenAPI document says of a route beside its schema. */
export function documented(
  schema: FastifySchema,
  { scope = PUBLIC, accepts = ['application/json'] }: Partial<RouteAccess>,
): FastifySchema {
  const problem = {
    description: 'What is wrong, and what to change (RFC 9457).',
    content: { [PROBLEM_MEDIA_TYPE]: { schema: PROBLEM_SCHEMA } },
  }
  return {
    ...schema,
    ...(schema.querystring !== undefined && { querystring: asCallersSeeIt(schema.querystring) }),
    ...(schema.body !== undefined && { consumes: [...accepts] }),
    security: scope === PUBLIC ? [] : [{ bearer: [scope] }],
    response: { ...Object(schema.response), default: problem },
  }
}

/** The query parameters without demanding those that have a default: a route always has them, its callers need not give them. */
function asCallersSeeIt(querystring: unknown): object {
  const { required = [], ...rest }: QuerySchema = Object(querystring)
  const hasDefault = (name: string) => rest.properties?.[name]?.default !== undefined
  return { ...rest, required: required.filter((name) => !hasDefault(name)) }
}

interface QuerySchema {
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, { readonly default?: unknown } | undefined>>
}

const TEXT = { type: 'string' }
const PROBLEM_SCHEMA = {
  type: 'object',
  required: ['type', 'title', 'status'],
  properties: {
    type: TEXT,
    title: TEXT,
    status: { type: 'integer' },
    detail: TEXT,
    instance: TEXT,
    errors: {
      type: 'array',
      items: {
        type: 'object',
        required: ['pointer', 'detail'],
        properties: { pointer: { ...TEXT, description: 'JSON pointer (RFC 6901).' }, detail: TEXT },
      },
    },
    trace_id: TEXT,
  },
}
