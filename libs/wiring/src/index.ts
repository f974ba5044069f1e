export {
  type CommonConfig,
  readCommonConfig,
  readMasterKeys,
  readOutboundConfig,
  readProcessConfig,
} from './config.ts'
export { createOpening, type Opening } from './opening.ts'
export { runService } from './run.ts'
