export { readCommonConfig, readMasterKeys, readOutboundConfig, readProcessConfig } from './config.ts'
export { createOpening, eventLogChecks, type Opening } from './opening.ts'
export { runService } from './run.ts'
