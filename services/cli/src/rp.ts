import { group } from './arguments.ts'
import { probe } from './rp-probe.ts'

/** `curfew rp probe`. */
export const rp = group('rp', { probe })
