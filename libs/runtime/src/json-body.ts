import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Fault, ProblemError } from './problem.ts'

/** Deepest nesting of arrays and objects in a body. What is deeper could not be written into a database, or out again. */
const DEPTH_MAX = 64
/** Escapes that may stand for what is no text: U+0000, and one half of a surrogate pair. */
const SUSPICIOUS = /\\u(?:0000|[dD][89a-fA-F])/

/** What bodies are read as. A route takes `application/json` alone unless it `accepts` others. */
export type BodyType = 'application/json' | 'application/merge-patch+json' | 'application/x-ndjson'

/** Those that are read once they are there as a whole. */
const WHOLE_TYPES = ['application/json', 'application/merge-patch+json'] as const

/** Most lines of an NDJSON body; those that are empty count too, ten to one. */
export const NDJSON_LINES_MAX = 20_000
/** Lines that are cut off at a stretch: others, in the same process, get in between. */
const BREATH = 500
const NEWLINE = 0x0a

/** One line of an NDJSON body that is not empty. */
export interface BodyLine {
  /** From 1. */
  readonly line: number
  /**
   * What it says, or what is wrong with it: parsed anew with each call. A body of thousands of lines is kept as the bytes that
   * came, for what they are parsed into may take ten times the memory.
   */
  read(): ReadLine
}

export type ReadLine = { readonly value: unknown } | { readonly fault: Fault }

/** What a route takes as a body. */
export function acceptedBy({ routeOptions: { config } }: FastifyRequest): readonly BodyType[] {
  return config.accepts ?? ['application/json']
}

/**
 * Makes JSON in UTF-8 the only body that is read (RFC 8259 8.1); as NDJSON, where a route takes that, it comes as an array of
 * `BodyLine`. Refused with 400 are bytes that are not UTF-8, for a replaced character would be another subject; `__proto__`;
 * and strings that are not Unicode text or hold U+0000 (RFC 7493 2.1), which PostgreSQL could not keep.
 */
export function readOnlyJson(server: Pick<FastifyInstance, keyof FastifyInstance>): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  server.removeAllContentTypeParsers()

  /** The value of a text, or the fault in it with its cause. */
  function read(
    request: FastifyRequest,
    text: string,
  ): { value: unknown } | { fault: Fault; cause?: unknown } {
    let read: { value: unknown } | { fault: Fault; cause?: unknown } | null = null
    // It calls back before it returns.
    parse(request, text, (error, value: unknown) => {
      if (error !== null) {
        read = { fault: { pointer: '', detail: whyNotJson(text) }, cause: error }
        return
      }
      const fault = unstorable(value, SUSPICIOUS.test(text), 0)
      read = fault === null ? { value } : { fault }
    })
    if (read === null) throw new Error('the JSON parser did not answer at once')
    return read
  }

  function lineOf(request: FastifyRequest, line: number, bytes: Buffer): BodyLine {
    return {
      line,
      read() {
        const { cause: _, ...result } = { cause: null, ...read(request, utf8.decode(bytes)) }
        return result
      },
    }
  }

  /** Cuts a body into lines as it comes. */
  async function readLines(request: FastifyRequest, payload: Readable): Promise<readonly BodyLine[]> {
    const { bodyLimit } = request.routeOptions
    const lines: BodyLine[] = []
    let line = 0
    const add = (bytes: Buffer) => {
      line += 1
      if (line > NDJSON_LINES_MAX * 10) throw tooManyLines()
      if (decoded(bytes).trim() === '') return
      if (lines.length === NDJSON_LINES_MAX) throw tooManyLines()
      lines.push(lineOf(request, line, bytes))
    }
    let rest: Buffer[] = []
    // It is not destroyed where we stop reading: the answer goes over the same connection.
    for await (const chunk of payload.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      request.bodyBytes += chunk.length
      if (request.bodyBytes > bodyLimit) throw tooLong(bodyLimit)
      let start = 0
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        add(Buffer.concat([...rest, chunk.subarray(start, end)]))
        rest = []
        start = end + 1
        if (line % BREATH === 0) await setImmediate()
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
        detail: `Send the body as it is, not in the coding ${JSON.stringify(encoding.slice(0, 64))}.`,
        headers: { 'accept-encoding': 'identity' },
      })
    }
    if (!acceptedBy(request).includes(type)) throw unsupported(request)
  }

  function readBody(request: FastifyRequest, type: BodyType, bytes: Buffer): unknown {
    request.bodyBytes = bytes.length
    refuseType(request, type)
    // Many clients name the type of a body with a DELETE too, where they send none and none is asked for.
    if (bytes.length === 0 && request.routeOptions.schema?.body === undefined) return undefined
    const result = read(request, decoded(bytes))
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
      }
    },
  )
  for (const type of WHOLE_TYPES) {
    server.addContentTypeParser(type, { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) =>
      readBody(request, type, body),
    )
  }
}

/** The refusal of a body of another type than the route takes. */
export function unsupported(request: FastifyRequest): ProblemError {
  return new ProblemError({ status: 415, detail: `Send the body as ${acceptedBy(request).join(' or ')}.` })
}

function tooLong(bytes: number): ProblemError {
  return new ProblemError({ status: 413, detail: `A body may have ${bytes} bytes.` })
}

function tooManyLines(): ProblemError {
  return new ProblemError({
    status: 413,
    detail: `A body may have ${NDJSON_LINES_MAX} lines. Send several.`,
  })
}

function invalid(fault: Fault, cause?: unknown): ProblemError {
  const where = fault.pointer === '' ? 'The body' : fault.pointer
  return new ProblemError(
    { status: 400, title: 'Invalid body', detail: `${where} ${fault.detail}.`, errors: [fault] },
    { cause },
  )
}

/** The parser refuses more than JSON's grammar does, and does not say which it was. */
function whyNotJson(text: string): string {
  if (text === '') return 'is empty'
  try {
    JSON.parse(text)
  } catch {
    return 'is not JSON'
  }
  return 'has a member named __proto__, or a constructor with a prototype'
}

/** The first thing in `value` that JSON allows and a database does not. @param strings whether to look at strings too. */
function unstorable(value: unknown, strings: boolean, depth: number): Fault | null {
  if (typeof value === 'string') return strings && !isText(value) ? NO_TEXT : null
  if (typeof value !== 'object' || value === null) return null
  if (depth === DEPTH_MAX) return { pointer: '', detail: `is nested deeper than ${DEPTH_MAX} levels` }
  for (const [name, member] of Object.entries(value)) {
    const fault = strings && !isText(name) ? NO_TEXT : unstorable(member, strings, depth + 1)
    if (fault === null) continue
    const segment = name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')
    return { ...fault, pointer: `/${segment}${fault.pointer}` }
  }
  return null
}

const NO_TEXT: Fault = { pointer: '', detail: 'is not Unicode text without U+0000' }

function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}
