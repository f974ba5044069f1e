/**
 * What a channel does to end access. `revoke`: it ends tokens and sessions where they are issued or checked. `notify`: it asks the
 * relying party to end its own session.
 */
export type Step = 'revoke' | 'notify'

/**
 * The order in which an issuer ends access. `revoke_then_notify`: the channels that revoke are always required, and are used at once
 * with those that notify.
 */
export type Strategy = 'revoke_then_notify'

/** The parts of a delivery that decide whether it is required or a fallback. */
export interface ChannelDelivery {
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that its channel is a fallback for; null if its channel is required. */
  readonly fallbackFor: string | null
  /** The session that it names; null for the subject. */
  readonly sid: string | null
}

/**
 * The status of one logout at a relying party, which is that of its weakest required delivery. If a delivery failed, the fallback
 * deliveries for the same session count instead, unless they failed too. A fallback that replaces no delivery of the logout
 * counts as required, because its channel was used at once.
 *
 * @param deliveries the deliveries of one logout to one relying party, at least one.
 */
export function weakestRequired<Delivery extends ChannelDelivery, Status>(
  deliveries: readonly Delivery[],
  {
    statusOf,
    worse,
    failed,
  }: {
    readonly statusOf: (delivery: Delivery) => Status
    readonly worse: (one: Status, other: Status) => Status
    readonly failed: (status: Status) => boolean
  },
): Status {
  const fallbacks = deliveries.filter(({ fallbackFor }) => fallbackFor !== null)
  const effectiveStatus = (delivery: Delivery, before: readonly string[]): Status => {
    const own = statusOf(delivery)
    if (!failed(own)) return own
    const visited = [...before, delivery.channel]
    const replacements = fallbacks
      .filter((other) => !visited.includes(other.channel) && replaces(other, delivery))
      .map((other) => effectiveStatus(other, visited))
    if (replacements.length === 0) return own
    const other = replacements.reduce((one, next) => worse(one, next))
    return failed(other) ? own : other
  }
  const required = deliveries.filter(
    (delivery) => delivery.fallbackFor === null || !deliveries.some((other) => replaces(delivery, other)),
  )
  // If all channels are fallbacks for each other in a circle, all are required.
  const counted = required.length === 0 ? deliveries : required
  return counted.map((delivery) => effectiveStatus(delivery, [])).reduce((one, other) => worse(one, other))
}

function replaces(fallback: ChannelDelivery, { channel, sid }: ChannelDelivery): boolean {
  return fallback.fallbackFor === channel && (fallback.sid === null || sid === null || fallback.sid === sid)
}
