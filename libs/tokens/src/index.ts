export {
  type AccessTokenGrant,
  type AuthorizationServer,
  createAccessTokenVerifier,
} from './access-tokens.ts'
export { type ClientKeyOwner, type ClientKeySealer, createClientKeySealer } from './client-keys.ts'
export { type CursorSealer, createCursorSealer } from './cursors.ts'
export { encryptToken, findEncryptionKey } from './encryption.ts'
export { type CheckedJwk, checkSigningJwk, type JwkFault, thumbprintOf } from './key-check.ts'
export {
  createKeyMaker,
  type KeyMaker,
  type KeySource,
  type SealedKey,
  type StoredKey,
} from './key-maker.ts'
export { createKeyring, type Keyring, type KeyringOptions, type KeyStore, publishedKeys } from './keyring.ts'
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
export { createProbeTokens, type ProbeTokens } from './probe-tokens.ts'
export type { PostJson, RemoteSigner } from './remote-signer.ts'
export { createVault, type MasterKeys, type Vault } from './sealing.ts'
export type { Signer } from './signer.ts'
export { createWebhookSecretSealer, type WebhookSecretSealer } from './webhook-secrets.ts'
