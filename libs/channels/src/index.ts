import { backchannel } from './backchannel/channel.ts'
import type { Channel } from './channel.ts'

export { type ProbeFacts, probeGoesOn, saysNotNow, takenSubject } from './backchannel/probe/facts.ts'
export {
  type ProbeAnswer,
  type ProbeForm,
  type ProbeReport,
  type ProbeSubject,
  probeClaims,
} from './backchannel/probe/probe.ts'
export { probeReport } from './backchannel/probe/report.ts'
export { PROBE_REQUEST_IDS, type ProbeRequestId, probeRequest } from './backchannel/probe/requests.ts'
export {
  LOGOUT_EVENT_MEMBER,
  LOGOUT_TOKEN_TYPE,
  type LogoutTokenClaims,
  logoutTokenClaims,
} from './backchannel/token.ts'
export type { Channel, Job, PushChannel, Sent, Tools } from './channel.ts'

/** Every channel, by kind. */
const CHANNELS: ReadonlyMap<string, Channel> = new Map([backchannel].map((each) => [each.kind, each]))

/** The channel of a kind that the registry has. @throws {Error} when there is none: the registry is of a newer release. */
export function channelOf(kind: string): Channel {
  const channel = CHANNELS.get(kind)
  if (channel === undefined) throw new Error(`This release has no channel ${kind}`)
  return channel
}
