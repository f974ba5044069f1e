import { AuthorizationServerUnavailableError } from '@curfew/domain'
import { ClaimsError, type Decision, type Revocations } from '@curfew/rs'
import type { BearerTokens } from '@curfew/tokens'
import type { Answer, Result } from './answers.ts'
import * as answers from './answers.ts'
import { readBearer } from './bearer.ts'
import { identityHeaders } from './identity-headers.ts'
import type { Introspect } from './introspection.ts'
import type { Policy } from './policy.ts'
import type { VerifiedToken, VerifiedTokens } from './verified-tokens.ts'

export interface CheckDeps {
  readonly tokens: Pick<BearerTokens, 'verify'>
  readonly verified: VerifiedTokens
  readonly revocations: Pick<Revocations, 'decide' | 'status'>
  /** Null if no introspection endpoint is configured. */
  readonly introspect: Introspect | null
  /** Longer tokens are refused unread. */
  readonly tokenBytesMax: number
}

export interface Checked {
  readonly result: Result
  readonly answer: Answer
}

/** Answers whether a request may pass. @param headers names and values in turn, as they came. */
export type Check = (headers: readonly string[], policy: Policy) => Promise<Checked>

/**
 * Creates the check: the request has one bearer token, the token is valid, and no logout ended it. The result of the verification is
 * kept, but the logouts are asked for every request.
 */
export function createCheck(deps: CheckDeps): Check {
  const { tokens, verified, revocations, introspect, tokenBytesMax } = deps

  async function tokenOf(token: string): Promise<VerifiedToken | Checked> {
    const known = verified.get(token)
    if (known !== null) return known
    const verification = await tokens.verify(token)
    if (!verification.ok) return { result: 'invalid', answer: answers.INVALID[verification.fault] }
    const { claims } = verification
    const { iss = '', sub, sid, iat, auth_time, exp } = claims
    const found = {
      // As they came, also if their type is wrong: `decide` judges it.
      claims: { iss, sub, sid, iat, auth_time } as VerifiedToken['claims'],
      exp,
      headers: identityHeaders(claims),
    }
    verified.set(token, found)
    return found
  }

  async function introspected(token: string, passed: Answer): Promise<Checked> {
    const active = introspect === null ? null : await introspect(token)
    if (active === null) return { result: 'unavailable', answer: answers.INTROSPECTION_UNAVAILABLE }
    return active ? { result: 'passed', answer: passed } : { result: 'inactive', answer: answers.INACTIVE }
  }

  function decisionOn({ claims }: VerifiedToken, policy: Policy): Decision | 'unnamed' {
    try {
      return revocations.decide(claims, policy)
    } catch (error) {
      // The feed says nothing about a token whose `sid` or `sub` is no text.
      if (error instanceof ClaimsError) return 'unnamed'
      throw error
    }
  }

  return async (headers, policy) => {
    const bearer = readBearer(headers, tokenBytesMax)
    if (!bearer.ok) return WITHOUT_TOKEN[bearer.fault]
    let found: VerifiedToken | Checked
    try {
      found = await tokenOf(bearer.token)
    } catch (error) {
      if (!(error instanceof AuthorizationServerUnavailableError)) throw error
      return { result: 'unavailable', answer: answers.KEYS_UNAVAILABLE }
    }
    if ('result' in found) return found
    const passed = answers.passed(found.headers)
    switch (decisionOn(found, policy)) {
      case 'live':
        return { result: 'passed', answer: passed }
      case 'revoked':
        return { result: 'revoked', answer: answers.REVOKED }
      case 'stale_denied':
        // The state is complete, but the token is older than the time for which logouts are kept. A new token passes.
        if (!revocations.status().stale) return { result: 'invalid', answer: answers.OUTLIVED }
        return { result: 'stale', answer: answers.STALE }
      case 'unnamed':
        return { result: 'invalid', answer: answers.INVALID.claims }
      case 'introspect':
        return introspected(bearer.token, passed)
    }
  }
}

const WITHOUT_TOKEN: Readonly<Record<'missing' | 'malformed' | 'too_large', Checked>> = {
  missing: { result: 'missing', answer: answers.MISSING },
  malformed: { result: 'malformed', answer: answers.MALFORMED },
  too_large: { result: 'invalid', answer: answers.TOO_LARGE },
}
