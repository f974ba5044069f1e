export {
  type CommonConfig,
  readCommonConfig,
  readMasterKeys,
  readOutboundConfig,
  readProcessConfig,
} from './config.ts'
export { createEncrypter, type Encrypter, type Peer } from './encrypter.ts'
export { createOpening, eventLogChecks, type Opening } from './opening.ts'
export { runService } from './run.ts'
export { createTlsIdentities, type TlsIdentities } from './tls-identities.ts'
