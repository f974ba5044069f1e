import { setTimeout as sleep } from 'node:timers/promises'

// The end of a run of Vitest. Vitest waits for every teardown without a limit, so that one server which does not stop would keep a
// finished run alive until something kills it.

const TEARDOWN_MS = 60_000
const END_MS = 120_000

/** Waits for the end of a server of the run, but not for ever: what is left of it is killed when this process exits. */
export async function stopped(server: string, stop: Promise<void>): Promise<void> {
  const late = sleep(TEARDOWN_MS, 'late' as const, { ref: false })
  if ((await Promise.race([stop, late])) === 'late')
    process.stderr.write(`${server} did not stop within ${TEARDOWN_MS} ms\n`)
}

/** Vitest's global setup. Its teardown ends the process, with the result of the run, if the rest of the end takes too long. */
export function setup(): () => void {
  return () => {
    const timer = setTimeout(() => {
      const open = Object.entries(Object.groupBy(process.getActiveResourcesInfo(), (kind) => kind))
      const text = open.map(([kind, all]) => `${all?.length} ${kind}`).join(', ')
      process.stderr.write(`the run did not end within ${END_MS} ms; still open: ${text}\n`)
      process.exit()
    }, END_MS)
    timer.unref()
  }
}
