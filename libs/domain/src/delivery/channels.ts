/** A delivery of one logout to one relying party, by its channel. */
export interface ChannelDelivery {
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that it stands in for; null: it is required. */
  readonly fallbackFor: string | null
  /** The session that it names; null for the subject. */
  readonly sid: string | null
}

/**
 * How one logout stands at a relying party: its weakest required delivery decides. Where a delivery has failed, the deliveries of
 * the fallback to the same session stand in for it, unless they have failed too. A fallback that stands in for no delivery of
 * the logout counts as required: its channel was used at once.
 *
 * @param deliveries of one logout to one relying party, at least one.
 */
export function weakestRequired<Delivery extends ChannelDelivery, Standing>(
  deliveries: readonly Delivery[],
  {
    standingOf,
    worse,
    failed,
  }: {
    readonly standingOf: (delivery: Delivery) => Standing
    readonly worse: (one: Standing, other: Standing) => Standing
    readonly failed: (standing: Standing) => boolean
  },
): Standing {
  const fallbacks = deliveries.filter(({ fallbackFor }) => fallbackFor !== null)
  const standing = (delivery: Delivery, before: readonly string[]): Standing => {
    const own = standingOf(delivery)
    if (!failed(own)) return own
    const passed = [...before, delivery.channel]
    const standIns = fallbacks
      .filter((other) => !passed.includes(other.channel) && standsIn(other, delivery))
      .map((other) => standing(other, passed))
    if (standIns.length === 0) return own
    const other = standIns.reduce((one, next) => worse(one, next))
    return failed(other) ? own : other
  }
  const required = deliveries.filter(
    (delivery) => delivery.fallbackFor === null || !deliveries.some((other) => standsIn(delivery, other)),
  )
  // Channels that stand in for each other in a circle are all required.
  const counted = required.length === 0 ? deliveries : required
  return counted.map((delivery) => standing(delivery, [])).reduce((one, other) => worse(one, other))
}

function standsIn(fallback: ChannelDelivery, { channel, sid }: ChannelDelivery): boolean {
  return fallback.fallbackFor === channel && (fallback.sid === null || sid === null || fallback.sid === sid)
}
