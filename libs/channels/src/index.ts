import { backchannel } from './backchannel/channel.ts'
import type { Channel } from './channel.ts'

export {
  LOGOUT_EVENT_MEMBER,
  LOGOUT_TOKEN_TYPE,
  type LogoutTokenClaims,
  logoutTokenClaims,
} from './backchannel/token.ts'
export type { Channel, Job, ProbeTarget, ProbeTools, PushChannel, Sent, Tools } from './channel.ts'
export type { ProbeReport } from './probe-report.ts'

/** The kind of an endpoint whose registration names none. */
export const DEFAULT_KIND: string = backchannel.kind

/** Every channel, by kind. */
const CHANNELS: ReadonlyMap<string, Channel> = new Map([backchannel].map((each) => [each.kind, each]))

/** The channel of a kind that the registry has. @throws {Error} when there is none: the registry is of a newer release. */
export function channelOf(kind: string): Channel {
  const channel = CHANNELS.get(kind)
  if (channel === undefined) throw new Error(`This release has no channel ${kind}`)
  return channel
}
