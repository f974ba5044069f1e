import { AsyncLocalStorage } from 'node:async_hooks'
import { createRequire } from 'node:module'
import type { Admin } from 'kafkajs'

/** The state of one partition at the brokers. */
export interface PartitionState {
  readonly partition: number
  /** False while no broker leads it. It then neither takes nor returns records. */
  readonly led: boolean
  readonly replicas: number
  /** The number of replicas that have every confirmed record. */
  readonly inSync: number
  /** The ids of the brokers with a replica in sync. */
  readonly isr: readonly number[]
  /** The ids of the brokers whose replicas are unavailable. */
  readonly offline: readonly number[]
}

/** The part of a metadata answer of kafkajs that is used here. */
interface Answer {
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number
    readonly partitionMetadata: readonly { readonly partitionErrorCode: number }[]
  }[]
}
interface AnswerModule {
  parse(answer: Answer): Promise<Answer>
}
/** Selects the part of an answer whose errors kafkajs throws. */
type Judged = (answer: Answer) => Answer

const NONE = 0
const UNKNOWN_TOPIC_OR_PARTITION = 3
const LEADER_NOT_AVAILABLE = 5
/** The leader does not listen on the listener of the broker that was asked. */
const LISTENER_NOT_FOUND = 72

const judging = new AsyncLocalStorage<Judged>()
let patched = false

/**
 * Runs administrative work that accepts missing topics and leaders as an answer.
 *
 * kafkajs discards a whole metadata answer if one partition has no leader, and does not name it. It asks for all topics of the
 * cluster before it creates or describes some. Any topic without a leader, even another application's, would fail our request.
 */
export function tolerant<Result>(work: () => Promise<Result>): Promise<Result> {
  const accepted = [NONE, UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE]
  return judgedBy(
    ({ topicMetadata }) => ({
      topicMetadata: topicMetadata.filter(({ topicErrorCode }) => !accepted.includes(topicErrorCode)),
    }),
    work,
  )
}

/** Runs work that continues with the other partitions if some have no leader. A missing topic is an error. */
export function withoutLeaders<Result>(work: () => Promise<Result>): Promise<Result> {
  const accepted = [LEADER_NOT_AVAILABLE, LISTENER_NOT_FOUND]
  return judgedBy(
    ({ topicMetadata }) => ({
      topicMetadata: topicMetadata.map(({ topicErrorCode, partitionMetadata }) => ({
        topicErrorCode,
        partitionMetadata: partitionMetadata.filter(
          ({ partitionErrorCode }) => !accepted.includes(partitionErrorCode),
        ),
      })),
    }),
    work,
  )
}

function judgedBy<Result>(judged: Judged, work: () => Promise<Result>): Promise<Result> {
  if (!patched) {
    patched = true
    // The highest version that kafkajs supports. Every broker since 2.0 answers in it.
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
 * The partitions of topics in order; empty for a topic that does not exist.
 *
 * @throws the error of kafkajs if the cluster does not answer or refuses.
 */
export async function describeTopics(
  admin: Admin,
  names: readonly string[],
): Promise<ReadonlyMap<string, readonly PartitionState[]>> {
  const { topics } = await tolerant(() => admin.fetchTopicMetadata({ topics: [...names] }))
  return new Map(topics.map(({ name, partitions }) => [name, statesOf(partitions)]))
}

/** The partitions of a metadata answer, in order. */
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
