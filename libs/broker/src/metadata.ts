import { AsyncLocalStorage } from 'node:async_hooks'
import { createRequire } from 'node:module'
import type { Admin } from 'kafkajs'

/** One partition, as the brokers see it. */
export interface PartitionState {
  readonly partition: number
  /** False while no broker leads it: it takes no records, and hands out none. */
  readonly led: boolean
  readonly replicas: number
  /** Replicas that have every confirmed record. */
  readonly inSync: number
  /** The brokers of replicas that are in sync. */
  readonly isr: readonly number[]
  /** The brokers of replicas that are unavailable. */
  readonly offline: readonly number[]
}

/** A metadata answer of kafkajs, as far as it is looked at here. */
interface Answer {
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number
    readonly partitionMetadata: readonly { readonly partitionErrorCode: number }[]
  }[]
}
interface AnswerModule {
  parse(answer: Answer): Promise<Answer>
}
/** The part of an answer whose errors kafkajs is to throw. */
type Judged = (answer: Answer) => Answer

const NONE = 0
const UNKNOWN_TOPIC_OR_PARTITION = 3
const LEADER_NOT_AVAILABLE = 5
/** The leader does not listen where the broker that was asked does. */
const LISTENER_NOT_FOUND = 72

const judging = new AsyncLocalStorage<Judged>()
let patched = false

/**
 * Runs administrative work for which a topic or leader that is missing is an answer.
 *
 * kafkajs throws a whole metadata answer away where one partition has no leader, and does not say which. It asks for all topics of the
 * cluster before it creates or describes some, so that any topic without a leader, also one of others, fails ours.
 */
export function tolerant<Result>(work: () => Promise<Result>): Promise<Result> {
  const told = [NONE, UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE]
  return judgedBy(
    ({ topicMetadata }) => ({
      topicMetadata: topicMetadata.filter(({ topicErrorCode }) => !told.includes(topicErrorCode)),
    }),
    work,
  )
}

/** Runs work that goes on with the other partitions where some have no leader. A topic that is missing is an error. */
export function withoutLeaders<Result>(work: () => Promise<Result>): Promise<Result> {
  const told = [LEADER_NOT_AVAILABLE, LISTENER_NOT_FOUND]
  return judgedBy(
    ({ topicMetadata }) => ({
      topicMetadata: topicMetadata.map(({ topicErrorCode, partitionMetadata }) => ({
        topicErrorCode,
        partitionMetadata: partitionMetadata.filter(
          ({ partitionErrorCode }) => !told.includes(partitionErrorCode),
        ),
      })),
    }),
    work,
  )
}

function judgedBy<Result>(judged: Judged, work: () => Promise<Result>): Promise<Result> {
  if (!patched) {
    patched = true
    // The highest version that kafkajs speaks: every broker since 2.0 answers in it.
    const path = 'kafkajs/src/protocol/requests/metadata/v6/response.js'
    const answers = createRequire(import.meta.url)(path) as AnswerModule
    const { parse } = answers
    if (typeof parse !== 'function')
      throw new TypeError('kafkajs is not the version that libs/broker was written for')
    answers.parse = async (answer) => {
      await parse(judging.getStore()?.(answer) ?? answer)
      return answer
    }
  }
  return judging.run(judged, work)
}

/**
 * The partitions of topics in their order; none of a topic that is not there.
 *
 * @throws whatever kafkajs throws when the cluster does not answer or refuses.
 */
export async function describeTopics(
  admin: Admin,
  names: readonly string[],
): Promise<ReadonlyMap<string, readonly PartitionState[]>> {
  const { topics } = await tolerant(() => admin.fetchTopicMetadata({ topics: [...names] }))
  return new Map(topics.map(({ name, partitions }) => [name, statesOf(partitions)]))
}

/** The partitions of a metadata answer, in their order. */
export function statesOf(
  partitions: readonly {
    readonly partitionId: number
    readonly leader: number
    readonly replicas: readonly number[]
    readonly isr: readonly number[]
    readonly offlineReplicas?: readonly number[]
  }[],
): readonly PartitionState[] {
  return partitions
    .map(({ partitionId, leader, replicas, isr, offlineReplicas = [] }) => ({
      partition: partitionId,
      led: leader >= 0,
      replicas: replicas.length,
      inSync: isr.length,
      isr,
      offline: offlineReplicas,
    }))
    .sort((one, other) => one.partition - other.partition)
}
