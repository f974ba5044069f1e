import { hash } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import type { FastifySchema } from 'fastify'
import { ANY, PUBLIC, type RouteAccess } from './access.ts'
import { nullsShown } from './null-members.ts'
import { PROBLEM_MEDIA_TYPE } from './problem.ts'
import { VERSION } from './version.ts'

/** The description of an API, in addition to its routes. */
export interface ApiDescription {
  /** Markdown. */
  readonly description: string
  /** The tags of the routes, in the order of the document. */
  readonly tags: readonly { readonly name: string; readonly description: string }[]
  /** The URL by which the outside reaches the API; null: that of the document. */
  readonly url: string | null
}

/** The options of the OpenAPI document. `documented` adds to the schema of each route. */
export function documentOptions(
  title: string,
  { description, tags, url }: ApiDescription,
): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        ...{ title, version: VERSION, description },
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } as { name: string },
      },
      servers: [{ url: url ?? '/' }],
      tags: tags.map((tag) => ({ ...tag })),
      components: { securitySchemes: { bearer: BEARER } },
    },
    transform: ({ schema, url: path, route }) => ({
      url: path,
      schema: documented(schema ?? {}, route.config ?? {}),
    }),
  }
}

const BEARER = {
  type: 'http',
  scheme: 'bearer',
  description:
    'An API key (`cfw_…`), or a JWT access token of a configured authorization server (RFC 9068). The security requirement of an operation names the scope that it needs. The scope `admin` includes all others.',
} as const

/** Returns the OpenAPI document. It is rendered at the first request, when all routes are registered, and then kept. */
export function createDocument(render: () => object): () => { readonly etag: string; readonly body: string } {
  let written: { readonly etag: string; readonly body: string } | null = null
  return () => {
    if (written === null) {
      const body = JSON.stringify(withSharedSchemas(withAnswers(withUsedTags(render()))))
      written = { etag: `"${hash('sha256', body, 'base64url')}"`, body }
    }
    return written
  }
}

interface Operation {
  readonly tags?: readonly string[]
  readonly responses: Readonly<Record<string, { readonly description: string }>>
}

interface Document {
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly tags?: readonly { readonly name: string }[]
  readonly components?: object
}

/** Leaves out the tags that no operation has: a service has a part of the routes. */
function withUsedTags(document: Document): Document {
  const operations = Object.values(document.paths ?? {}).flatMap((path) => Object.values(path))
  const used = new Set(operations.flatMap(({ tags = [] }) => tags))
  return { ...document, tags: (document.tags ?? []).filter(({ name }) => used.has(name)) }
}

/** The description that the plugin gives to an answer without its own. */
const UNDESCRIBED = 'Default Response'

/** Describes the answers without a description by the name of their status. */
function withAnswers(document: Document): Document {
  const paths = mapValues(document.paths ?? {}, (path) =>
    mapValues(path, (operation) => ({
      ...operation,
      responses: mapValues(operation.responses, (answer, status) =>
        answer.description === UNDESCRIBED
          ? { ...answer, description: STATUS_CODES[status] ?? status }
          : answer,
      ),
    })),
  )
  return { ...document, paths }
}

function mapValues<From, To>(
  members: Readonly<Record<string, From>>,
  map: (value: From, name: string) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, map(value, name)]))
}

/**
 * Moves every schema with a title to `components`, under its title, and refers to it.
 *
 * @throws {Error} if two different schemas have the same title.
 */
function withSharedSchemas(document: Document): Document {
  const schemas: Record<string, object> = {}
  const share = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(share)
    if (typeof node !== 'object' || node === null) return node
    const shared = Object.fromEntries(
      Object.entries(node).map(([name, value]) => [name, DATA.has(name) ? value : share(value)]),
    )
    const { title } = shared
    if (typeof title !== 'string') return shared
    const known = schemas[title]
    if (known !== undefined && !isDeepStrictEqual(known, shared))
      throw new Error(`two schemas of the API have the title ${title}`)
    schemas[title] = shared
    return { $ref: `#/components/schemas/${title}` }
  }
  const paths = share(document.paths)
  const sorted = Object.fromEntries(Object.entries(schemas).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  return { ...document, paths, components: { ...document.components, schemas: sorted } } as Document
}

/** The members of a schema that hold data and no schemas. */
const DATA: ReadonlySet<string> = new Set(['example', 'examples', 'default', 'const', 'enum'])

/** Adds to a route's schema what the OpenAPI document needs beside it: scope, media types and problems. */
function documented(
  schema: FastifySchema,
  { scope = PUBLIC, accepts = ['application/json'] }: Partial<RouteAccess>,
): FastifySchema {
  const problem = (description: string) => ({
    description,
    content: { [PROBLEM_MEDIA_TYPE]: { schema: PROBLEM_SCHEMA } },
  })
  const { description } = schema as { readonly description?: string }
  const needs =
    scope === PUBLIC
      ? []
      : [scope === ANY ? 'Any valid credential may call it.' : `Needs the scope \`${scope}\`.`]
  return {
    ...schema,
    description: [...(description === undefined ? [] : [description]), ...needs].join('\n\n'),
    ...(schema.querystring !== undefined && { querystring: asCallersSend(schema.querystring) }),
    ...(schema.body !== undefined && { body: nullsShown(Object(schema.body)), consumes: [...accepts] }),
    security: scope === PUBLIC ? [] : [{ bearer: scope === ANY ? [] : [scope] }],
    response: {
      ...Object(schema.response),
      '4XX': problem('A problem of the request (RFC 9457), with its cause and its remedy.'),
      '5XX': problem('A problem of Curfew. The same request may succeed later.'),
    },
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
const PROBLEM = 'Problem'
/** Equal to `Problem` in the contract, because both have the same title. */
const PROBLEM_SCHEMA = {
  type: 'object',
  title: PROBLEM,
  description: 'RFC 9457.',
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
        properties: { pointer: { type: 'string', description: 'JSON pointer (RFC 6901).' }, detail: TEXT },
      },
    },
    trace_id: TEXT,
  },
}
