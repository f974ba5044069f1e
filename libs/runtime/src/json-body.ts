import type { FastifyInstance } from 'fastify'
import { type Fault, ProblemError } from './problem.ts'

/** Deepest nesting of arrays and objects in a body. What is deeper could not be written into a database, or out again. */
const DEPTH_MAX = 64
/** Escapes that may stand for what is no text: U+0000, and one half of a surrogate pair. */
const SUSPICIOUS = /\\u(?:0000|[dD][89a-fA-F])/

/**
 * Makes JSON in UTF-8 the only body that is read (RFC 8259 8.1). Refused with 400 are bytes that are not UTF-8, for a
 * replaced character would be another subject; `__proto__`; and strings that are not Unicode text or hold U+0000 (RFC
 * 7493 2.1), which PostgreSQL could not keep.
 */
export function readOnlyJson(server: Pick<FastifyInstance, keyof FastifyInstance>): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const encoding = request.headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') {
      done(
        new ProblemError({
          status: 415,
          detail: `Send the body as it is, not in the coding ${JSON.stringify(encoding.slice(0, 64))}.`,
          headers: { 'accept-encoding': 'identity' },
        }),
      )
      return
    }
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch (cause) {
      done(invalid({ pointer: '', detail: 'is not UTF-8' }, cause))
      return
    }
    parse(request, text, (error, value: unknown) => {
      if (error !== null) {
        done(invalid({ pointer: '', detail: whyNotJson(text) }, error))
        return
      }
      const fault = unstorable(value, SUSPICIOUS.test(text), 0)
      if (fault !== null) done(invalid(fault))
      else done(null, value)
    })
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
