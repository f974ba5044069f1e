import { original } from './client.ts'

/** Kafka's name of an error, such as `OFFSET_OUT_OF_RANGE`; null if Kafka did not answer it. */
export function failureType(error: unknown): string | null {
  const { type } = Object(original(error)) as { readonly type?: unknown }
  return typeof type === 'string' ? type : null
}

/** Answers that only report a rebalance. */
const REBALANCE = ['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID']

export function isRebalance(error: unknown): boolean {
  return REBALANCE.includes(failureType(error) ?? '')
}

/** Answers of a coordinator that has not finished loading its groups. */
const TOO_EARLY = ['GROUP_LOAD_IN_PROGRESS', 'NOT_COORDINATOR_FOR_GROUP', 'GROUP_COORDINATOR_NOT_AVAILABLE']

export function isTooEarly(error: unknown): boolean {
  return TOO_EARLY.includes(failureType(error) ?? '')
}

/** Whether Kafka refuses the login, the topic or the group. This lasts until a person changes it. */
export function isForbidden(error: unknown): error is Error {
  const cause = original(error)
  return (
    error instanceof Error &&
    (/_AUTHORIZATION_FAILED$/.test(failureType(error) ?? '') ||
      (cause instanceof Error && cause.name === 'KafkaJSSASLAuthenticationError'))
  )
}
