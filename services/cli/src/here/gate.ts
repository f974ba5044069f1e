import { runGate } from '@curfew/gate'

/** `curfew gate`: runs the gate until a signal stops it. */
export async function start(): Promise<number> {
  return runGate()
}
