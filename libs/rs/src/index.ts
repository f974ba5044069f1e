export {
  AnswerRefusedError,
  ClaimsError,
  DeniedError,
  type DeniedReason,
  FeedUnavailableError,
  IntrospectionError,
} from './errors.ts'
export type { RevocationsEvent } from './events.ts'
export type { GuardOptions } from './guard.ts'
export { type IntrospectorOptions, introspector } from './introspector.ts'
export { metricsText } from './metrics.ts'
export type { RevocationsOptions } from './options.ts'
export {
  createRevocations,
  type Decision,
  type Revocations,
  type RevocationsStatus,
  type Staleness,
} from './revocations.ts'
export type { TokenClaims, TokenTime } from './rule.ts'
