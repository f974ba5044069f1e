import {
  type ChannelSettings,
  type DeadLetterReason,
  type DeadLetterWords,
  deadLetterWords,
  type LastAttempt,
  LEVELS,
} from '@curfew/domain'
import { type TObject, type TSchema, Type } from 'typebox'
import { admin } from './admin/channel.ts'
import { backchannel } from './backchannel/channel.ts'
import type { Channel, PushChannel, RegisteredAt } from './channel.ts'
import { cutoff } from './cutoff/channel.ts'
import { globalRevocation } from './global_revocation/channel.ts'
import { revocation } from './revocation/channel.ts'

export { logoutUriOf, relayFault } from './backchannel/relay.ts'
export { type ClientRemark, remarksOn } from './backchannel/remarks.ts'
export {
  LOGOUT_EVENT_MEMBER,
  LOGOUT_TOKEN_TYPE,
  type LogoutTokenClaims,
  logoutTokenClaims,
} from './backchannel/token.ts'
export type {
  Channel,
  Fault,
  Job,
  ProbeTarget,
  ProbeTools,
  PullChannel,
  PushChannel,
  RegisterContext,
  Registered,
  Sent,
  Tools,
} from './channel.ts'
export type { ProbeReport } from './probe-report.ts'
export { type SessionAnswer, type SessionOver, sessionCheck } from './probe-session.ts'

/** All channels, in the order of endpoints in API answers. */
export const CHANNELS: readonly Channel[] = [backchannel, globalRevocation, revocation, admin, cutoff]

/** The channel that a resource server registers for. */
export const RESOURCE_SERVER_KIND: string = cutoff.kind

/** The kind of an endpoint without a stated kind. */
export const DEFAULT_KIND: string = backchannel.kind

const BY_KIND: ReadonlyMap<string, Channel> = new Map(CHANNELS.map((channel) => [channel.kind, channel]))

/** The channel of a kind. @throws {Error} if there is none, because a newer release wrote the kind to the registry. */
export function channelOf(kind: string): Channel {
  const channel = BY_KIND.get(kind)
  if (channel === undefined) throw new Error(`This release has no channel ${kind}`)
  return channel
}

/** The push channel of a kind. @throws {Error} if there is none: the kind is unknown, or relying parties fetch from the channel. */
export function pushChannelOf(kind: string): PushChannel {
  const channel = channelOf(kind)
  if (channel.mode === 'pull') throw new Error(`Curfew sends nothing over the channel ${kind}`)
  return channel
}

/** Explains a dead letter and how to correct its cause. @param endpoint null if it is unknown. */
export function explain(
  kind: string,
  reason: DeadLetterReason | (string & {}),
  last: LastAttempt | null,
  endpoint: RegisteredAt<ChannelSettings> | null = null,
): DeadLetterWords {
  const channel = BY_KIND.get(kind)
  const words = deadLetterWords(reason, last, channel?.channelNames)
  return { ...words, fix: channel?.deadLetterFix(reason as DeadLetterReason, last, endpoint) ?? words.fix }
}

/** The reasons of the dead letters that failed attempts lead to, by their outcome. */
const REASON_AFTER: Readonly<Record<string, DeadLetterReason>> = {
  unavailable: 'attempts_exhausted',
  refused: 'refused',
  misconfigured: 'misconfigured',
}
/** The end of the advice about dead letters that a replay puts back. */
const THEN_REPLAY = /(?:\. Then|, then) replay\.$/

/**
 * How to correct the cause of a failed attempt while Curfew repeats the delivery: the advice about the dead letter that the delivery
 * becomes if nothing changes, without the replay.
 */
export function failureFix(
  kind: string,
  last: LastAttempt & { readonly outcome: string },
  endpoint: RegisteredAt<ChannelSettings>,
): string {
  const { fix } = explain(kind, REASON_AFTER[last.outcome] ?? last.errorClass ?? '', last, endpoint)
  return `${fix.replace(THEN_REPLAY, '.')} Curfew repeats the delivery by itself.`
}

/** The members of `curfew.channels.<kind>` that every channel has. */
const COMMON = {
  enabled: Type.Optional(
    Type.Boolean({
      description: 'Default true. Deliveries that are due while it is false become dead letters.',
    }),
  ),
  fallback_for: Type.Optional(
    Type.String({
      maxLength: 32,
      description:
        'Another channel of this relying party. Curfew then uses this channel only if the other one is unusable or has failed. Default: none, so that each logout uses this channel too.',
    }),
  ),
  secret: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 4_096,
      pattern: '^[\\x21-\\x7e]+$',
      writeOnly: true,
      description:
        'The credential that Curfew sends to the endpoint. Stored encrypted, never returned. If absent, the stored secret stays as long as the address of the endpoint stays the same.',
    }),
  ),
  sla: Type.Optional(
    Type.Object(
      {
        counts: Type.Union(
          LEVELS.map((level) => Type.Literal(level)),
          {
            description:
              'The weakest level of acknowledgement that keeps the SLA. Default: the strongest level of the channel.',
          },
        ),
      },
      { additionalProperties: false },
    ),
  ),
}

/** The members of `curfew.channels.<kind>` that every channel has. */
export interface CommonRegistration {
  readonly enabled?: boolean
  readonly fallback_for?: string
  readonly secret?: string
  readonly sla?: { readonly counts: (typeof LEVELS)[number] }
}

/** The schema of `curfew.channels`. */
export const ChannelRegistrations: TObject = Type.Object(
  Object.fromEntries(
    CHANNELS.map(({ kind, registration }): [string, TSchema] => [
      kind,
      Type.Optional(Type.Object({ ...registration, ...COMMON }, { additionalProperties: false })),
    ]),
  ),
  { additionalProperties: false, description: 'Settings of each channel, by the kind of the channel.' },
)
