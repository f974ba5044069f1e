import type { Job, PushChannel, Tools } from '../channel.ts'
import { outcomeOf } from './answer.ts'
import { forwardableJti, forwardedToken } from './forward.ts'
import { PROBE_REQUEST_IDS } from './probe/requests.ts'
import { runProbe } from './probe/run.ts'
import { readRegistration } from './registration.ts'
import { BackchannelSettings, namesOf, toEncryption, typOf } from './settings.ts'
import { lacksSubject, logoutTokenClaims } from './token.ts'
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
  step: 'notify',
  best: 'done',
  registration: {},
  settings: BackchannelSettings,
  endpoints: readRegistration,
  names: namesOf,
  channelNames: CHANNEL_NAMES,
  deadLetterFix,
  prepare: forwardedToken,
  async send(job, tools) {
    const { binding } = job
    const own = forwarded(job)
    if (own === null && lacksSubject(job.delivery, job.settings)) {
      const detail = 'no sub is known by which the relying party knows the user, and it takes nothing else'
      return {
        outcome: { kind: 'undeliverable', reason: 'sub_required', detail },
        jti: null,
        tokenDigest: null,
      }
    }
    const { token, jti } = own ?? (await minted(job, tools))
    // A form with this field only (section 2.5). The characters of a compact JWT need no encoding in a form.
    const request = { uri: binding.uri, headers: HEADERS, body: `logout_token=${token}` }
    const answer = await tools.http.post(request)
    return { outcome: outcomeOf(answer, tools.now(), job.settings), jti, tokenDigest: tools.digest(token) }
  },
  probe: { total: PROBE_REQUEST_IDS.length, namesSessions: true, run: runProbe },
}

interface Token {
  readonly token: string
  readonly jti: string
}

/** The IdP's own token, byte for byte, while it is valid. Null in every attempt but the first. */
function forwarded({ firstMessage, startedAt }: Job<BackchannelSettings>): Token | null {
  if (firstMessage === null) return null
  const jti = forwardableJti(firstMessage, startedAt)
  return jti === null ? null : { token: firstMessage, jti }
}

/** A new token: signed with the issuer's key, and encrypted if the RP asks for it. */
async function minted(
  { delivery, binding, settings, startedAt }: Job<BackchannelSettings>,
  tools: Tools,
): Promise<Token> {
  const jti = tools.newId()
  const to = { ...settings, clientId: binding.clientId }
  const claims = logoutTokenClaims(delivery, to, { now: startedAt, jti })
  const typ = typOf(settings.token_type)
  const signed = await tools.sign(settings.algorithm, typ, claims)
  const { encryption } = settings
  if (encryption === null) return { token: signed, jti }
  return { token: await tools.encrypt(typ, signed, toEncryption(encryption)), jti }
}
