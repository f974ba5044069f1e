import { hash } from 'node:crypto'
import type { FastifySchema } from 'fastify'
import { PUBLIC, type RouteAccess } from './access.ts'
import { nullsShown } from './null-members.ts'
import { PROBLEM_MEDIA_TYPE } from './problem.ts'

/** Returns the OpenAPI document. It is rendered at the first request, when all routes are registered, and then kept. */
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

/** Adds to a route's schema what the OpenAPI document needs beside it: scope, media types and problems. */
export function documented(
  schema: FastifySchema,
  { scope = PUBLIC, accepts = ['application/json'] }: Partial<RouteAccess>,
): FastifySchema {
  const problem = {
    description: 'A problem (RFC 9457): what is wrong and what to change.',
    content: { [PROBLEM_MEDIA_TYPE]: { schema: PROBLEM_SCHEMA } },
  }
  return {
    ...schema,
    ...(schema.querystring !== undefined && { querystring: asCallersSend(schema.querystring) }),
    ...(schema.body !== undefined && { body: nullsShown(Object(schema.body)), consumes: [...accepts] }),
    security: scope === PUBLIC ? [] : [{ bearer: [scope] }],
    response: { ...Object(schema.response), default: problem },
  }
}

/** Makes parameters with a default optional: the route always has a value, so its callers need not send one. */
function asCallersSend(querystring: unknown): object {
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
