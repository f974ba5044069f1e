import type { PushChannel } from '../channel.ts'
import { withoutCredential } from '../credential.ts'
import { outcomeOf } from './answer.ts'
import { PROBE_REQUESTS, runProbe } from './probe.ts'
import { bodyOf, CREDENTIAL_TYPE, credentialClaims, headersOf, subjectOf } from './request.ts'
import { GlobalRevocationSettings, namesOf, readRegistration, registration } from './settings.ts'
import { CHANNEL_NAMES, deadLetterFix } from './words.ts'

/**
 * Global Token Revocation (draft 04) and its profile Okta Universal Logout. It ends all sessions and refresh tokens of a user.
 */
export const globalRevocation: PushChannel<GlobalRevocationSettings> = {
  kind: 'global_revocation',
  mode: 'push',
  step: 'revoke',
  best: 'begun',
  registration,
  settings: GlobalRevocationSettings,
  endpoints: readRegistration,
  names: namesOf,
  channelNames: CHANNEL_NAMES,
  deadLetterFix,
  async send({ delivery, binding, settings, startedAt }, tools) {
    const identifier = subjectOf(delivery.event, settings)
    if (typeof identifier === 'string') {
      const detail = 'the logout event does not have the identifier that the relying party knows its users by'
      return { outcome: { kind: 'undeliverable', reason: identifier, detail }, jti: null, tokenDigest: null }
    }
    const jti = tools.newId()
    const { iss, clientId, uri } = binding
    const claims = credentialClaims({ iss, app: settings.app ?? clientId, uri, now: startedAt, jti })
    const signed =
      settings.credential === 'signed_jwt'
        ? await tools.sign(settings.algorithm, CREDENTIAL_TYPE, claims)
        : null
    const credential = signed ?? (await tools.secret())
    const request = { uri, headers: headersOf(credential), body: bodyOf(identifier, settings) }
    const answer = withoutCredential(await tools.http.post(request), credential)
    const outcome = outcomeOf(answer, settings, { now: tools.now(), tried: delivery.attempts })
    // A bearer token is the same in every request, so its digest would not identify this request.
    return { outcome, jti, tokenDigest: signed === null ? null : tools.digest(signed) }
  },
  probe: { namesSessions: false, total: PROBE_REQUESTS.length, run: runProbe },
}
