export type { AliveWatch } from './alive.ts'
export { BacklogDegradedError, createBacklogCheck } from './backlog-check.ts'
export { createClockCheck } from './clock-check.ts'
export {
  readCommonConfig,
  readMasterKeys,
  readOutboundConfig,
  readSpool,
  readTrustedProxies,
  type SpoolConfig,
} from './config.ts'
export { createEncrypter, type Encrypter, type TokenReceiver } from './encrypter.ts'
export { createOpening, eventLogChecks, type Opening } from './opening.ts'
export {
  createRelayedTokens,
  type RelayedTokenSource,
  type RelayedTokens,
  type RelayedVerification,
} from './relayed-tokens.ts'
export { describeProcess, messagingOf, runService } from './run.ts'
export { send } from './send.ts'
export { createTlsIdentities, type TlsIdentities } from './tls-identities.ts'
