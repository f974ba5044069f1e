export type { LogoutEventInput, Problem, SessionInput } from '@curfew/contract'
export {
  ApiError,
  type Client,
  type ClientOptions,
  createClient,
  type DeadLettersFilter,
  type DeliveriesFilter,
  type OrphansFilter,
  type Page,
  type QuarantineFilter,
  type Readiness,
  type SessionsFilter,
  type SlaFilter,
} from './client.ts'
