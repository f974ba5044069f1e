import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '@curfew/contract'
import { syncDirectory } from '../spool/store.ts'

/** Keeps a refused event on disk, so that it is never lost silently. */
export type KeepRejected = (event: unknown, problem: Problem) => Promise<void>

/** Appends to the file `rejected` of the directory: one line of JSON for each event. */
export function createRejectedFile(directory: string, now: () => Date): KeepRejected {
  return async (event, problem) => {
    const file = await open(join(directory, 'rejected'), 'a', 0o600)
    try {
      await file.appendFile(`${JSON.stringify({ rejected_at: now().toISOString(), event, problem })}\n`)
      await file.datasync()
      await syncDirectory(directory)
    } finally {
      await file.close()
    }
  }
}
