import { readFile, writeFile } from 'node:fs/promises'
import { type Checkpoint, parseCheckpointText, parseNote } from '@curfew/domain'
import { readLogKey, type TrustedLogKey } from '@curfew/tokens'
import { UsageError } from './arguments.ts'

/** The text of a file, or of standard input for `-`. @throws {UsageError} */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path === '-' ? '/dev/stdin' : path, 'utf8')
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

/** Writes to a file, or to standard output without a path. @throws {UsageError} */
export async function writeText(path: string | undefined, text: string): Promise<void> {
  if (path === undefined) {
    process.stdout.write(text)
    return
  }
  try {
    await writeFile(path, text)
  } catch (error) {
    throw new UsageError(`${path} cannot be written: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

/** The checkpoint in a file, as text and parsed; null without a path. @throws {UsageError} if the file is not a checkpoint. */
export async function readCheckpoint(
  path: string | undefined,
): Promise<{ readonly note: string; readonly says: Checkpoint } | null> {
  if (path === undefined) return null
  const note = await readText(path)
  const says = parseCheckpointText(parseNote(note)?.text ?? '')
  if (says === null) throw new UsageError(`${path} is not a checkpoint.`)
  return { note, says }
}

/** The key in a file; null without a path. @throws {UsageError} if the file is not a key. */
export async function readKey(path: string | undefined): Promise<TrustedLogKey | null> {
  if (path === undefined) return null
  const key = await readLogKey(await readText(path))
  if (key === null)
    throw new UsageError(
      `${path} is not a key of a receipt log: give a verifier key, a JWK, a JWK Set or a public key in PEM (Ed25519).`,
    )
  return key
}
