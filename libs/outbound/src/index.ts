export { postLogoutToken } from './backchannel.ts'
export { createGuardedClient, type GuardedClient, type GuardedClientOptions } from './guarded-client.ts'
export { targetFault } from './target.ts'
export { type TlsIdentity, tlsFaults } from './tls-identity.ts'
