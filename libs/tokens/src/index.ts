export { createAccessTokenVerifier } from './access-tokens.ts'
export { type AuditSecretSealer, createAuditSecretSealer } from './audit-secrets.ts'
export {
  type BearerTokenFault,
  type BearerTokenRules,
  type BearerTokens,
  createBearerTokens,
} from './bearer-tokens.ts'
export { signAssertion } from './client-assertions.ts'
export { type ClientKeySealer, createClientKeySealer } from './client-keys.ts'
export { type CursorSealer, createCursorSealer } from './cursors.ts'
export { encryptToken, findEncryptionKey } from './encryption.ts'
export { checkSigningJwk, isKid, type JwkFault, thumbprintOf } from './key-check.ts'
export { createKeyMaker, type KeyMaker, type StoredKey } from './key-maker.ts'
export { createKeyring, type Keyring, publishedKeys } from './keyring.ts'
export {
  createLogKeeper,
  hashedWith,
  type LogKeeper,
  type LogSigner,
  type SubjectHash,
  sha256,
} from './log-keys.ts'
export {
  isConsistent,
  isIncluded,
  readLogKey,
  type TrustedLogKey,
  verifyCheckpoint,
  verifyReceipt,
} from './log-verify.ts'
export { createMessageSealer, type MessageSealer } from './messages.ts'
export { createProbeTokens, type ProbeTokens } from './probe-tokens.ts'
export { createVault, type MasterKeys } from './sealing.ts'
export { createSessionTokenSealer, type SessionTokenSealer } from './session-tokens.ts'
export { createWebhookSecretSealer, type WebhookSecretSealer } from './webhook-secrets.ts'
