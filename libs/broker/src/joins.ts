import { createRequire } from 'node:module'
import kafkajs from 'kafkajs'

/** As much of kafkajs's consumer group as is used here. The version is pinned for this. */
interface ConsumerGroup {
  joinAndSync(): Promise<void>
}

/** A failed join is repeated for this long. A broker that becomes the coordinator loads its groups first. */
const JOIN_MS_MAX = 10_000
const PAUSE_MS = 250

let patched = false

/**
 * Lets each join of kafkajs succeed, or end its consumer.
 *
 * After most failed joins kafkajs fetches on under the old generation, and says nothing. A closed connection is such a failure, a
 * coordinator that loads its groups is another. The member then waits for an assignment that never comes, or reads partitions that
 * the group gave to another member. That lasts until another member starts a rebalance.
 *
 * Joins of one consumer at the same time become one. Each fetch loop of kafkajs joins by itself, and each join of the group's leader
 * starts a rebalance.
 */
export function settleJoins(): void {
  if (patched) return
  patched = true
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/consumer/consumerGroup.js') as {
    readonly prototype: ConsumerGroup
  }
  const { joinAndSync } = prototype
  if (typeof joinAndSync !== 'function')
    throw new TypeError('kafkajs is not the version that libs/broker was written for')
  const joining = new WeakMap<ConsumerGroup, Promise<void>>()
  prototype.joinAndSync = function joinOnce(this: ConsumerGroup) {
    const underWay = joining.get(this)
    if (underWay !== undefined) return underWay
    const join = joinForLong(() => joinAndSync.call(this)).finally(() => joining.delete(this))
    joining.set(this, join)
    return join
  }
}

/** @throws {KafkaJSNonRetriableError} which ends the consumer. */
async function joinForLong(join: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + JOIN_MS_MAX
  for (;;) {
    try {
      return await join()
    } catch (error) {
      if (!isTransient(error) || performance.now() > deadline) throw final(error)
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
}

/** As an error after which kafkajs ends the consumer. */
function final(error: unknown): Error {
  const why = error instanceof Error ? error : String(error)
  return Object.assign(new kafkajs.KafkaJSNonRetriableError(why), { cause: error })
}

function isTransient(error: unknown): boolean {
  return error instanceof kafkajs.KafkaJSError && error.retriable
}
