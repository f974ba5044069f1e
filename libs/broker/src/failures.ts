import { original } from './client.ts'

/** What Kafka calls an answer, such as `OFFSET_OUT_OF_RANGE`; null where the failure is none of Kafka's. */
export function failureType(error: unknown): string | null {
  const { type } = Object(original(error)) as { readonly type?: unknown }
  return typeof type === 'string' ? type : null
}

/** Answers that only say that a rebalance is under way. */
const REBALANCE = ['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID']

export function isRebalance(error: unknown): boolean {
  return REBALANCE.includes(failureType(error) ?? '')
}

/** Answers of a coordinator that is only just becoming one. */
const TOO_EARLY = ['GROUP_LOAD_IN_PROGRESS', 'NOT_COORDINATOR_FOR_GROUP', 'GROUP_COORDINATOR_NOT_AVAILABLE']

export function isTooEarly(error: unknown): boolean {
  return TOO_EARLY.includes(failureType(error) ?? '')
}

/** Whether Kafka does not let us in, or to the topic, or to the group: it lasts until a person changes it. */
export function isForbidden(error: unknown): error is Error {
  const cause = original(error)
  return (
    error instanceof Error &&
    (/_AUTHORIZATION_FAILED$/.test(failureType(error) ?? '') ||
      (cause instanceof Error && cause.name === 'KafkaJSSASLAuthenticationError'))
  )
}
