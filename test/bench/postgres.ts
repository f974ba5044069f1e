import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedPostgres } from '@curfew/embedded'

/** Starts a new, empty PostgreSQL, which is removed when it is disposed. */
export async function openPostgres(
  progress: (text: string) => void,
): Promise<{ readonly url: string } & AsyncDisposable> {
  await using opening = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'curfew-bench-postgres-'))
  // Under root the database runs as another user, which must be able to enter the folder.
  await chmod(folder, 0o711)
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = await openEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log: progress })
  opening.defer(() => postgres.stop())
  const opened = opening.move()
  return { url: postgres.url, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}
