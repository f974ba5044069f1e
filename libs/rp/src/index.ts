export { LOGOUT_EVENT, type LogoutTokenClaims } from './claims.ts'
export { type ReadToken, readLogoutForm } from './form.ts'
export { type IssuerKeys, KeysUnavailableError, keysOf } from './keys.ts'
export {
  createLogoutReceiver,
  type Logout,
  type LogoutReceiver,
  type LogoutReceiverOptions,
  type Refusal,
} from './receiver.ts'
export {
  type MemoryReplayStoreOptions,
  memoryReplayStore,
  type RedisLike,
  type ReplayStore,
  redisReplayStore,
} from './replay-store.ts'
export {
  createLogoutTokenVerifier,
  type LogoutTokenVerifier,
  type LogoutTokenVerifierOptions,
  type Verification,
} from './verifier.ts'
