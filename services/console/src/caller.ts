export { callerOf } from '@curfew/runtime'
