import { type Answer, TOKEN_LIFETIME_S, type TokenSignature } from '@curfew/domain'
import type { ProbeLevel } from '../../probe-report.ts'
import { LOGOUT_EVENT_MEMBER } from '../token.ts'

/** Claims of a token that a probe sends; good ones until a check changes them. */
export type ProbeClaims = Readonly<Record<string, unknown>>

/** How the token is sent. `form` is the right one (Back-Channel Logout 2.5), the others say what is different. */
export type ProbeForm =
  | 'form'
  | 'with_charset'
  | 'with_another_field'
  | 'repeated'
  | 'twice_in_one_form'
  | 'query'
  | 'json'
  | 'oversize'
  | 'no_jwt'
  | 'without_token'
  | 'empty'

/** One request of a probe, and what should come of it. What is left out is as a good logout token has it. */
export interface ProbeRequest {
  readonly title: string
  readonly level: ProbeLevel
  /** Where the specification says so. */
  readonly section: string
  /** `either`: nobody is wrong here, and which it is, is worth knowing. */
  readonly expects: 'taken' | 'refused' | 'either'
  /** What is different about the claims. */
  readonly claims?: (good: ProbeClaims) => ProbeClaims
  /** What is different about the token's header; null takes a member away. */
  readonly header?: Readonly<Record<string, unknown>>
  readonly signature?: TokenSignature
  readonly form?: ProbeForm
  /** What is wrong when it comes to something else, in a whole sentence. */
  readonly wrong: string
  /** What its owner can do about it. */
  readonly fix: string
}

/** An answer, and how long it took. */
export type ProbeAnswer = Answer & { readonly durationMs: number }

/** Which claims name whom a good token logs out. */
export type ProbeSubject = 'both' | 'sid' | 'sub'

/** Names nobody: no session and no subject of a real issuer has such a name. */
const NOBODY = 'curfew-probe-'

/**
 * The claims of a good logout token (Back-Channel Logout 2.4) for a subject and a session that do not exist.
 *
 * @param id a new UUID, that nobody can know beforehand.
 * @param jti another one.
 */
export function probeClaims({
  iss,
  aud,
  now,
  id,
  jti,
  subject,
}: {
  readonly iss: string
  readonly aud: string
  readonly now: Date
  readonly id: string
  readonly jti: string
  readonly subject: ProbeSubject
}): ProbeClaims {
  const iat = Math.floor(now.getTime() / 1_000)
  return {
    iss,
    aud,
    iat,
    exp: iat + TOKEN_LIFETIME_S,
    jti,
    ...(subject !== 'sid' && { sub: `${NOBODY}${id}` }),
    ...(subject !== 'sub' && { sid: `${NOBODY}${id}` }),
    events: { [LOGOUT_EVENT_MEMBER]: {} },
  }
}

/** Claims with some taken away. */
export function without(claims: ProbeClaims, ...names: readonly string[]): ProbeClaims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !names.includes(name)))
}

/** The same answer to two requests, whatever names they bore: for telling whether two refusals have one reason. */
export function sameButForNames(one: string, other: string): boolean {
  const nameless = (text: string) => text.replaceAll(NAMES, '*')
  return nameless(one) === nameless(other)
}

const NAMES = /(?:curfew-probe-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi
