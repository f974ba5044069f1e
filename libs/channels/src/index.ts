import {
  type DeadLetterReason,
  type DeadLetterWords,
  deadLetterWords,
  type LastAttempt,
  LEVELS,
} from '@curfew/domain'
import { type TObject, type TSchema, Type } from 'typebox'
import { backchannel } from './backchannel/channel.ts'
import type { Channel } from './channel.ts'
import { globalRevocation } from './global_revocation/channel.ts'

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
  PushChannel,
  RegisterContext,
  Registered,
  Sent,
  Tools,
} from './channel.ts'
export type { ProbeReport } from './probe-report.ts'

/** Every channel. The order is that of endpoints in answers. */
export const CHANNELS: readonly Channel[] = [backchannel, globalRevocation]

/** The kind of an endpoint that is named without one. */
export const DEFAULT_KIND: string = backchannel.kind

const BY_KIND: ReadonlyMap<string, Channel> = new Map(CHANNELS.map((each) => [each.kind, each]))

/** The channel of a kind that the registry has. @throws {Error} when there is none: the registry is of a newer release. */
export function channelOf(kind: string): Channel {
  const channel = BY_KIND.get(kind)
  if (channel === undefined) throw new Error(`This release has no channel ${kind}`)
  return channel
}

/** Says what went wrong with a dead letter, and what would mend it. */
export function explain(
  kind: string,
  reason: DeadLetterReason | (string & {}),
  last: LastAttempt | null,
): DeadLetterWords {
  const channel = BY_KIND.get(kind)
  const words = deadLetterWords(reason, last, channel?.called)
  return { ...words, fix: channel?.mend(reason as DeadLetterReason, last) ?? words.fix }
}

/** The members of `curfew.channels.<kind>` that every channel has. */
const COMMON = {
  enabled: Type.Optional(
    Type.Boolean({ description: 'Default true. What is owed while disabled is dead-lettered.' }),
  ),
  fallback_for: Type.Optional(
    Type.String({
      maxLength: 32,
      description:
        'The channel of this relying party that this one stands in for: it is used only where that one cannot be used or has failed. Default none: each logout goes out by this channel too.',
    }),
  ),
  secret: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 4_096,
      pattern: '^[\\x21-\\x7e]+$',
      writeOnly: true,
      description:
        'What the endpoint is shown as a credential. Stored encrypted, never returned; left out, the one that is stored stays as long as the endpoint stays where it is.',
    }),
  ),
  sla: Type.Optional(
    Type.Object(
      {
        counts: Type.Union(
          LEVELS.map((level) => Type.Literal(level)),
          {
            description:
              'The weakest acknowledgement that keeps the promise. Default the strongest that the channel can get.',
          },
        ),
      },
      { additionalProperties: false },
    ),
  ),
}

/** `curfew.channels` of one kind, as far as it is the same for every channel. */
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
  { additionalProperties: false, description: 'What concerns one channel, by its kind.' },
)
