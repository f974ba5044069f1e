import type { SessionToken } from '@curfew/domain'
import type { PushChannel } from '../channel.ts'
import { isUnsupported, outcomeOf, UNSUPPORTED } from './answer.ts'
import { PROBE_REQUESTS_MAX, runProbe } from './probe.ts'
import { readRegistration } from './registration.ts'
import { credentialFor, requestOf, withoutSecrets } from './request.ts'
import { namesOf, RevocationSettings, registration } from './settings.ts'
import { CHANNEL_NAMES, deadLetterFix } from './words.ts'

/**
 * Token revocation (RFC 7009): ends the tokens of a session at the authorization server that issued them. The identity provider posts
 * the tokens with the session.
 */
export const revocation: PushChannel<RevocationSettings> = {
  kind: 'revocation',
  mode: 'push',
  step: 'revoke',
  best: 'done',
  registration,
  settings: RevocationSettings,
  endpoints: readRegistration,
  names: namesOf,
  channelNames: CHANNEL_NAMES,
  deadLetterFix,
  async send({ delivery, binding, settings }, tools) {
    const tokens = await tools.sessionTokens()
    if (tokens.length === 0) {
      const detail = 'the session index has no tokens of the session'
      return { outcome: { kind: 'undeliverable', reason: 'token_required', detail }, ...NOTHING_SENT }
    }
    let revoked = 0
    let unsupported = false
    for (const token of tokens.toSorted(refreshFirst)) {
      const request = requestOf(token, await credentialFor(settings, binding, tools))
      const { headers, body } = request
      const answer = await tools.http.post({ uri: binding.uri, headers, body })
      const failure = outcomeOf(withoutSecrets(answer, request), tools.now())
      if (failure === null) revoked += 1
      // The first attempt reports it. Later ones leave the token out: servers with signed access tokens revoke refresh tokens only.
      else if (isUnsupported(failure) && revoked > 0 && delivery.attempts > 0) unsupported = true
      else return { outcome: failure, jti: tools.newId(), tokenDigest: null }
    }
    const note = unsupported ? { note: UNSUPPORTED } : {}
    const outcome = { kind: 'acknowledged', level: 'done', status: 200, ...note } as const
    return { outcome, jti: tools.newId(), tokenDigest: null }
  },
  probe: { namesSessions: false, total: PROBE_REQUESTS_MAX, run: runProbe },
}

const NOTHING_SENT = { jti: null, tokenDigest: null }
const ORDER = ['refresh_token', null, 'access_token']

/** Sorts refresh tokens first: many servers revoke the access tokens of the same grant with them. */
function refreshFirst({ hint: a }: SessionToken, { hint: b }: SessionToken): number {
  return ORDER.indexOf(a) - ORDER.indexOf(b)
}
