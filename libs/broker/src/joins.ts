import { createRequire } from 'node:module'
import kafkajs from 'kafkajs'

/** The part of kafkajs's consumer group that is used here. The version of kafkajs is pinned for this reason. */
interface ConsumerGroup {
  joinAndSync(): Promise<void>
}

/** How long a failed join is retried. A broker that becomes the coordinator loads its groups first. */
const JOIN_MS_MAX = 10_000
const PAUSE_MS = 250

let patched = false

/**
 * Makes each join of kafkajs succeed or end its consumer.
 *
 * After most failed joins kafkajs keeps fetching under the old generation, without an error. Examples are a closed connection and
 * a coordinator that loads its groups. The member then waits for an assignment that never comes, or reads partitions that the
 * group assigned to another member. That lasts until another member starts a rebalance.
 *
 * Concurrent joins of one consumer are merged. Each fetch loop of kafkajs joins by itself, and each join of the group's leader
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

/** @throws {KafkaJSNonRetriableError} which makes kafkajs end the consumer. */
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

/** Wraps an error so that kafkajs ends the consumer. */
function final(error: unknown): Error {
  const why = error instanceof Error ? error : String(error)
  return Object.assign(new kafkajs.KafkaJSNonRetriableError(why), { cause: error })
}

function isTransient(error: unknown): boolean {
  return error instanceof kafkajs.KafkaJSError && error.retriable
}
