import type { PushChannel } from '../channel.ts'
import { outcomeOf } from './answer.ts'
import { PROBE_REQUEST_IDS } from './probe/requests.ts'
import { runProbe } from './probe/run.ts'
import { LOGOUT_TOKEN_TYPE, logoutTokenClaims } from './token.ts'

const HEADERS = {
  'content-type': 'application/x-www-form-urlencoded',
  accept: 'application/json',
  'user-agent': 'curfew',
}

/** OpenID Connect Back-Channel Logout 1.0. */
export const backchannel: PushChannel = {
  kind: 'backchannel',
  mode: 'push',
  async send({ delivery, binding, startedAt }, tools) {
    const jti = tools.newId()
    const claims = logoutTokenClaims(delivery, binding, { now: startedAt, jti })
    const token = await tools.encrypt(LOGOUT_TOKEN_TYPE, await tools.sign(LOGOUT_TOKEN_TYPE, claims))
    // A form with the one field, and nothing else (2.5). A compact JWT has only characters that a form leaves as they are.
    const request = { uri: binding.uri, headers: HEADERS, body: `logout_token=${token}` }
    const answer = await tools.http.post(request)
    return { outcome: outcomeOf(answer, tools.now()), jti, tokenDigest: tools.digest(token) }
  },
  probe: { total: PROBE_REQUEST_IDS.length, run: runProbe },
}
