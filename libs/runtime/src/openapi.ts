import type { FastifySchema } from 'fastify'
import { PUBLIC, type RouteAccess } from './access.ts'
import { PROBLEM_MEDIA_TYPE } from './problem.ts'

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
    ...(schema.body !== undefined && { consumes: [...accepts] }),
    security: scope === PUBLIC ? [] : [{ bearer: [scope] }],
    response: { ...Object(schema.response), default: problem },
  }
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
