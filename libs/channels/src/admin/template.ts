import type { InFlightDelivery, UndeliverableReason } from '@curfew/domain'

// A template is an address or the value of a body with placeholders for the names of a logout. The names come from outside, so a
// placeholder is always a whole segment of a path, a whole value of a query, or a whole value of a body.

/** The names of a logout. Null: unknown. */
export interface Values {
  readonly sid: string | null
  readonly sub: string | null
  readonly email: string | null
}

export type Placeholder = keyof Values
const PLACEHOLDERS: readonly string[] = ['sid', 'sub', 'email'] satisfies readonly Placeholder[]
const PLACEHOLDER = /\{([^{}]*)\}/g
const WHOLE = /^\{(sid|sub|email)\}$/

/** The names for the message of a delivery. */
export function valuesOf({ sid, event }: Pick<InFlightDelivery, 'sid' | 'event'>): Values {
  return { sid, sub: event.sub, email: event.email ?? null }
}

/** The placeholders in a text. */
export function placeholdersIn(text: string): readonly Placeholder[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, name]) => name as Placeholder)
}

/** The fault of a value of a body, in words; null if there is none. */
export function bodyValueFault(value: unknown): string | null {
  if (typeof value !== 'string') return null
  return unknownFault(value) ?? (/[{}]/.test(value) && !WHOLE.test(value) ? wholeFault('value') : null)
}

/** The fault of the placeholders and segments of an address, in words; null if there is none. */
export function addressFault(uri: string): string | null {
  const unknown = unknownFault(uri)
  if (unknown !== null) return unknown
  const [, origin = '', path = '', query = ''] =
    /^([a-z]+:\/\/[^/?#\\]*)?([^?#]*)(?:\?([^#]*))?/i.exec(uri) ?? []
  if (origin.includes('{')) return 'must have its placeholders after the host name'
  const segments = path.split('/')
  if (segments.some((segment) => segment.includes('{') && !WHOLE.test(segment))) return wholeFault('segment')
  if (segments.some(isDots)) return 'must not have the segments . and ..'
  const values = query.split('&').map((pair) => pair.split('='))
  return values.every(([name = '', ...value]) => isWholeValue(name, value.join('=')))
    ? null
    : wholeFault('value')
}

function isWholeValue(name: string, value: string): boolean {
  return !name.includes('{') && (!value.includes('{') || WHOLE.test(value))
}

function unknownFault(text: string): string | null {
  const unknown = placeholdersIn(text).find((name) => !PLACEHOLDERS.includes(name))
  return unknown === undefined
    ? null
    : `has the unknown placeholder {${unknown}}: use {sid}, {sub} or {email}`
}

function wholeFault(part: 'segment' | 'value'): string {
  return `must have a placeholder as a whole ${part}, such as ${part === 'segment' ? '/users/{sub}' : '{sub}'}`
}

/** Whether a segment of a path leads to another folder, also if its dots are encoded. */
function isDots(segment: string): boolean {
  return /^(?:\.|%2e){1,2}$/i.test(segment)
}

const REASONS: Readonly<Record<Placeholder, Extract<UndeliverableReason, `${string}_required`>>> = {
  sid: 'sid_required',
  sub: 'sub_required',
  email: 'email_required',
}

/** Why templates cannot have the names of a logout; null if they can. */
export function lacking(
  texts: readonly string[],
  values: Values,
): { readonly reason: UndeliverableReason; readonly detail: string } | null {
  for (const name of texts.flatMap(placeholdersIn)) {
    const value = values[name]
    if (value === null)
      return { reason: REASONS[name], detail: `the logout has no ${name}, which the request needs` }
    if (!isSafe(value))
      return { reason: REASONS[name], detail: `the ${name} of the logout cannot be a part of an address` }
  }
  return null
}

/**
 * Whether a value can be a segment of a path. A server may decode the segment before it looks for `..`, so a value that would then
 * have such a part is not safe either.
 */
function isSafe(value: string): boolean {
  if (value === '' || !value.isWellFormed() || hasControls(value)) return false
  return !value.split(/[/\\?#;]/).some(isDots)
}

/** Whether a text has control characters, which parsers of URLs leave out. */
function hasControls(text: string): boolean {
  return [...text].some((character) => character < ' ' || character === '\x7f')
}

/** An address with the names of a logout, each percent-encoded. Only for values that `lacking` accepts. */
export function addressOf(uri: string, values: Values): string {
  return uri.replace(PLACEHOLDER, (_, name: Placeholder) => encoded(values[name] ?? ''))
}

/** Percent-encodes every character that is not unreserved (RFC 3986 section 2.3). */
function encoded(value: string): string {
  return encodeURIComponent(value).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

/** The JSON of a body with the names of a logout. */
export function bodyOf(body: Readonly<Record<string, unknown>>, values: Values): string {
  const filled = Object.entries(body).map(([member, value]) => {
    const [, name] = typeof value === 'string' ? (WHOLE.exec(value) ?? []) : []
    return [member, name === undefined ? value : values[name as Placeholder]]
  })
  return JSON.stringify(Object.fromEntries(filled))
}
