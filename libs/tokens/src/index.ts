export {
  type AccessTokenGrant,
  type AuthorizationServer,
  createAccessTokenVerifier,
} from './access-tokens.ts'
export { type ClientKeyOwner, type ClientKeySealer, createClientKeySealer } from './client-keys.ts'
export { createKeyring, type Keyring, type KeyringOptions, type KeyStore, type StoredKey } from './keyring.ts'
export { createProbeTokens, type ProbeTokens } from './probe-tokens.ts'
export type { Signer } from './signer.ts'
export { createWebhookSecretSealer, type WebhookSecretSealer } from './webhook-secrets.ts'
