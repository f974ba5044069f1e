import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { chargeForSize } from './access.ts'
import { type Outline, outlineOf } from './json-outline.ts'
import { type Fault, ProblemError } from './problem.ts'

/** Deepest nesting of arrays and objects in a body. Deeper values cannot be written to a database or read from it. */
const DEPTH_MAX = 64
/** Escapes that may stand for invalid text: U+0000, and one half of a surrogate pair. */
const SUSPICIOUS = /\\u(?:0000|[dD][89a-fA-F])/

/**
 * The media types of bodies. A route accepts only `application/json` unless its `accepts` names others. A route that accepts forms
 * has a parser of its own.
 */
export type BodyType =
  | 'application/json'
  | 'application/merge-patch+json'
  | 'application/x-ndjson'
  | 'application/x-www-form-urlencoded'

/** The types that are parsed once the whole body has arrived. */
const WHOLE_TYPES = ['application/json', 'application/merge-patch+json'] as const

/** Most lines of an NDJSON body. Up to ten times as many are allowed if the rest are empty. */
export const NDJSON_LINES_MAX = 20_000
/** Lines that are split without a pause. After that, other requests in the process get a turn. */
const LINES_PER_TICK = 500
/** Most members and elements of a body, or of a line. The processing time grows with them. */
const VALUES_MAX = 30_000
/** Most bytes of a line. */
const LINE_BYTES_MAX = 1024 * 1024
/** Smaller bodies are parsed without an outline: they cannot hold many values. */
const SMALL_BYTES = 1_024
/** Larger bodies are parsed one at a time, so that other requests in the process run in between. */
const LARGE_BYTES = 64 * 1024
const NEWLINE = 0x0a

/** One line of an NDJSON body that is not empty. */
export interface BodyLine {
  /** The number of the line, from 1. */
  readonly line: number
  /**
   * Parses the line again at each call and returns its value or its fault. A body of thousands of lines is kept as bytes, because
   * the parsed values may take ten times the memory.
   */
  read(): ReadLine
}

export type ReadLine = { readonly value: unknown } | { readonly fault: Fault }

/** The media types that a route accepts for a body. */
export function acceptedBy({ routeOptions: { config } }: FastifyRequest): readonly BodyType[] {
  return config.accepts ?? ['application/json']
}

/**
 * Makes JSON in UTF-8 the only body that is read (RFC 8259 8.1). An NDJSON body, on a route that accepts it, becomes an array of
 * `BodyLine`. These are refused with 400:
 * - bytes that are not UTF-8, because a replaced character would name another subject;
 * - `__proto__`;
 * - strings that are not Unicode text or contain U+0000 (RFC 7493 2.1), which PostgreSQL cannot store.
 */
export function readOnlyJson(server: Pick<FastifyInstance, keyof FastifyInstance>): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  server.removeAllContentTypeParsers()

  let lastTurn: Promise<unknown> = Promise.resolve()
  /** Waits until the large bodies before this one are parsed. Other events are handled in between. */
  async function ownTurn(): Promise<void> {
    lastTurn = lastTurn.then(() => setImmediate())
    await lastTurn
  }

  function lineOf(line: number, bytes: Buffer): BodyLine {
    return {
      line,
      read() {
        const fault = bytes.length > LINE_BYTES_MAX ? LONG_LINE : tooMuch(outlined(bytes))
        if (fault !== null) return { fault }
        const { cause: _, ...result } = { cause: null, ...read(utf8.decode(bytes)) }
        return result
      },
    }
  }

  /** Splits a body into lines while it arrives. */
  async function readLines(request: FastifyRequest, payload: Readable): Promise<readonly BodyLine[]> {
    const { bodyLimit } = request.routeOptions
    const lines: BodyLine[] = []
    let line = 0
    const add = (bytes: Buffer) => {
      line += 1
      if (line > NDJSON_LINES_MAX * 10) throw tooManyLines()
      if (decoded(bytes).trim() === '') return
      if (lines.length === NDJSON_LINES_MAX) throw tooManyLines()
      lines.push(lineOf(line, bytes))
    }
    let rest: Buffer[] = []
    // The stream stays open when we stop reading, because the answer needs its connection.
    for await (const chunk of payload.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      request.bodyBytes += chunk.length
      if (request.bodyBytes > bodyLimit) throw tooLong(bodyLimit)
      let start = 0
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        add(Buffer.concat([...rest, chunk.subarray(start, end)]))
        rest = []
        start = end + 1
        if (line % LINES_PER_TICK === 0) await setImmediate()
      }
      if (start < chunk.length) rest.push(chunk.subarray(start))
    }
    if (rest.length > 0) add(Buffer.concat(rest))
    return lines
  }

  function decoded(bytes: Buffer): string {
    try {
      return utf8.decode(bytes)
    } catch (cause) {
      throw invalid({ pointer: '', detail: 'is not UTF-8' }, cause)
    }
  }

  function refuseType(request: FastifyRequest, type: BodyType): void {
    const encoding = request.headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') {
      throw new ProblemError({
        status: 415,
        detail: `Send the body without the content coding ${JSON.stringify(encoding.slice(0, 64))}.`,
        headers: { 'accept-encoding': 'identity' },
      })
    }
    if (!acceptedBy(request).includes(type)) throw unsupported(request)
  }

  async function readBody(request: FastifyRequest, type: BodyType, bytes: Buffer): Promise<unknown> {
    request.bodyBytes = bytes.length
    refuseType(request, type)
    // Many clients send a Content-Type with a DELETE that has no body and needs none.
    if (bytes.length === 0 && request.routeOptions.schema?.body === undefined) return undefined
    const outline = outlined(bytes)
    const refusal = refusalOf(request, outline)
    chargeForSize(request, refusal === null ? outline : { ...outline, elements: 0 })
    if (refusal !== null) throw refusal
    if (bytes.length > LARGE_BYTES) await ownTurn()
    const result = read(decoded(bytes))
    if ('fault' in result) throw invalid(result.fault, result.cause)
    return result.value
  }

  server.addContentTypeParser(
    'application/x-ndjson',
    async (request: FastifyRequest, payload: IncomingMessage) => {
      refuseType(request, 'application/x-ndjson')
      try {
        return await readLines(request, payload)
      } finally {
        payload.resume()
        chargeForSize(request, { elements: 0, values: 0 })
      }
    },
  )
  for (const type of WHOLE_TYPES) {
    server.addContentTypeParser(type, { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) =>
      readBody(request, type, body),
    )
  }
}

/** The refusal of a body whose type the route does not accept. */
export function unsupported(request: FastifyRequest): ProblemError {
  return new ProblemError({ status: 415, detail: `Send the body as ${acceptedBy(request).join(' or ')}.` })
}

function tooLong(bytes: number): ProblemError {
  return new ProblemError({ status: 413, detail: `A body may have at most ${bytes} bytes.` })
}

function tooManyLines(): ProblemError {
  return new ProblemError({
    status: 413,
    detail: `A body may have at most ${NDJSON_LINES_MAX} lines. Send several bodies.`,
  })
}

function invalid(fault: Fault, cause?: unknown): ProblemError {
  const where = fault.pointer === '' ? 'The body' : fault.pointer
  return new ProblemError(
    { status: 400, title: 'Invalid body', detail: `${where} ${fault.detail}.`, errors: [fault] },
    { cause },
  )
}

function outlined(bytes: Buffer): Outline {
  return bytes.length > SMALL_BYTES ? outlineOf(bytes, DEPTH_MAX) : { values: 1, elements: 1, depth: 1 }
}

/** The refusal of a body before it is parsed; null if it may be parsed. */
function refusalOf({ routeOptions: { config } }: FastifyRequest, outline: Outline): ProblemError | null {
  const { elementsMax = Number.POSITIVE_INFINITY } = config
  if (outline.elements > elementsMax) {
    return new ProblemError({
      status: 400,
      title: 'Invalid array',
      detail: `An array must have 1 to ${elementsMax} elements; this one has ${outline.elements}.`,
      errors: [{ pointer: '', detail: `must have 1 to ${elementsMax} items` }],
    })
  }
  const fault = tooMuch(outline)
  return fault === null ? null : invalid(fault)
}

function tooMuch({ values, depth }: Outline): Fault | null {
  if (depth > DEPTH_MAX) return TOO_DEEP
  if (values <= VALUES_MAX) return null
  return { pointer: '', detail: `has more than ${VALUES_MAX} members and elements` }
}

/** The value of a JSON text, or its fault with the cause. */
function read(text: string): { value: unknown } | { fault: Fault; cause?: unknown } {
  if (text === '') return { fault: { pointer: '', detail: 'is empty' } }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    return { fault: { pointer: '', detail: 'is not JSON' }, cause }
  }
  const fault = unstorable(value, SUSPICIOUS.test(text), 0)
  return fault === null ? { value } : { fault }
}

/**
 * Finds the first part of `value` that JSON allows and we do not. A database could not store it, or JavaScript would take it for
 * a prototype. @param strings whether to check strings too.
 */
function unstorable(value: unknown, strings: boolean, depth: number): Fault | null {
  if (typeof value === 'string') return strings && !isText(value) ? NO_TEXT : null
  if (typeof value !== 'object' || value === null) return null
  if (depth === DEPTH_MAX) return TOO_DEEP
  const members = value as Readonly<Record<string, unknown>>
  // Every member of a parsed value is its own, so `in` finds no inherited one. Object.entries would allocate an array per member.
  for (const name in members) {
    const member = members[name]
    if (name === '__proto__' || (name === 'constructor' && hasPrototype(member))) return PROTOTYPE
    const fault = strings && !isText(name) ? NO_TEXT : unstorable(member, strings, depth + 1)
    if (fault === null) continue
    const segment = name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')
    return { ...fault, pointer: `/${segment}${fault.pointer}` }
  }
  return null
}

function hasPrototype(member: unknown): boolean {
  return typeof member === 'object' && member !== null && Object.hasOwn(member, 'prototype')
}

const TOO_DEEP: Fault = { pointer: '', detail: `is nested deeper than ${DEPTH_MAX} levels` }
const LONG_LINE: Fault = { pointer: '', detail: `is longer than ${LINE_BYTES_MAX} bytes` }
const PROTOTYPE: Fault = {
  pointer: '',
  detail: 'has a member named __proto__, or a constructor with a prototype',
}
const NO_TEXT: Fault = { pointer: '', detail: 'is not Unicode text without U+0000' }

function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}
