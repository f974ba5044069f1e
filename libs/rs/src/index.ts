export { AnswerRefusedError, ClaimsError, FeedUnavailableError } from './errors.ts'
export type { RevocationsEvent } from './events.ts'
export type { RevocationsOptions } from './options.ts'
export {
  createRevocations,
  type Decision,
  type Revocations,
  type RevocationsStatus,
  type Staleness,
} from './revocations.ts'
export type { TokenClaims, TokenTime } from './rule.ts'
