import type { PushChannel } from '../channel.ts'
import { outcomeOf } from './answer.ts'
import { PROBE_REQUEST_IDS } from './probe/requests.ts'
import { runProbe } from './probe/run.ts'
import { readRegistration } from './registration.ts'
import { BackchannelSettings, namesOf, toEncryption } from './settings.ts'
import { LOGOUT_TOKEN_TYPE, logoutTokenClaims } from './token.ts'
import { CHANNEL_NAMES, deadLetterFix } from './words.ts'

const HEADERS = {
  'content-type': 'application/x-www-form-urlencoded',
  accept: 'application/json',
  'user-agent': 'curfew',
}

/** OpenID Connect Back-Channel Logout 1.0. */
export const backchannel: PushChannel<BackchannelSettings> = {
  kind: 'backchannel',
  mode: 'push',
  best: 'done',
  registration: {},
  settings: BackchannelSettings,
  endpoints: readRegistration,
  names: namesOf,
  channelNames: CHANNEL_NAMES,
  deadLetterFix,
  async send({ delivery, binding, settings, startedAt }, tools) {
    const jti = tools.newId()
    const claims = logoutTokenClaims(
      delivery,
      { ...settings, clientId: binding.clientId },
      { now: startedAt, jti },
    )
    const signed = await tools.sign(settings.algorithm, LOGOUT_TOKEN_TYPE, claims)
    const { encryption } = settings
    const token =
      encryption === null ? signed : await tools.encrypt(LOGOUT_TOKEN_TYPE, signed, toEncryption(encryption))
    // A form with this field only (section 2.5). The characters of a compact JWT need no encoding in a form.
    const request = { uri: binding.uri, headers: HEADERS, body: `logout_token=${token}` }
    const answer = await tools.http.post(request)
    return { outcome: outcomeOf(answer, tools.now()), jti, tokenDigest: tools.digest(token) }
  },
  probe: { total: PROBE_REQUEST_IDS.length, run: runProbe },
}
