export type { RouteAccess } from './access.ts'
export { type AddressLimits, createAddressLimits } from './address-limits.ts'
export { ambiguousEvent } from './ambiguous-event.ts'
export { type AccessConfig, readAccessConfig } from './authorization-servers.ts'
export { type Batcher, createBatcher, DEFERRED, QueueFullError } from './batcher.ts'
export {
  type ApiKey,
  adminKey,
  type Credential,
  type CredentialsDeps,
  callerOf,
  createApiKeyAuthenticator,
  createCredentials,
  hashApiKey,
  hasScope,
} from './credentials.ts'
export { matchesEntityTag } from './entity-tags.ts'
export {
  type Environment,
  type EnvironmentReader,
  isCidr,
  readEnvironment,
  readLogOrigin,
  readMetricsPort,
  readOrExit,
  readReadTimeout,
} from './environment.ts'
export { problemOf, traceparentOf } from './http-errors.ts'
export {
  createHttpServer,
  type FirstAnswers,
  type HttpServer,
  type HttpServerOptions,
  httpService,
} from './http-server.ts'
export { type BodyLine, NDJSON_LINES_MAX } from './json-body.ts'
export { aborted, type RunContext, runProcess, type Scope, type Service, sleep } from './lifecycle.ts'
export { createLog, LOG_LEVELS, type Log, type LogLevel } from './log.ts'
export { openLogFile } from './log-destination.ts'
export { createMetrics, type Metrics } from './metrics.ts'
export { metricsServices } from './metrics-service.ts'
export { type Fault, ProblemError } from './problem.ts'
export { type ProcessConfig, readProcessConfig } from './process-config.ts'
export { unitsOfElements } from './request-limits.ts'
export { createThrottle } from './seldom.ts'
export { readTelemetry } from './telemetry/settings.ts'
export { errorTypeOf, inSpan, record, type Span, startBatchSpan, startSpan } from './telemetry/spans.ts'
export { startTelemetry } from './telemetry/telemetry.ts'
export { childOf, parseTraceparent, traceIdOf } from './telemetry/traceparent.ts'
export { createTurns, type Turn } from './turns.ts'
export { createBodyValidator, createValidator } from './validator.ts'
export { within } from './within.ts'
