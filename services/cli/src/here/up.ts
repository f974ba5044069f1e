import { readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from '@curfew/standalone'

/** `curfew up`: runs all services in one process. */
export async function runUp({ demo }: { demo: boolean }): Promise<number> {
  return runStandalone(readOrExit(readStandaloneConfig), { demo })
}
