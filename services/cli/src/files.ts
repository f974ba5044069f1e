import { readFile, writeFile } from 'node:fs/promises'
import { type Checkpoint, parseCheckpointText, parseNote } from '@curfew/domain'
import { readLogKey, type TrustedLogKey } from '@curfew/tokens'
import { UsageError } from './arguments.ts'

/** A file's text; of `-` what comes in. @throws {UsageError} */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path === '-' ? '/dev/stdin' : path, 'utf8')
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

/** Writes to a file, or out. @throws {UsageError} */
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

/** The checkpoint that a file has, if one is named: as it is, and what it says. @throws {UsageError} where it is none. */
export async function readCheckpoint(
  path: string | undefined,
): Promise<{ readonly note: string; readonly says: Checkpoint } | null> {
  if (path === undefined) return null
  const note = await readText(path)
  const says = parseCheckpointText(parseNote(note)?.text ?? '')
  if (says === null) throw new UsageError(`${path} is no checkpoint.`)
  return { note, says }
}

/** The key that a file has, if one is named. @throws {UsageError} where it is none. */
export async function readKey(path: string | undefined): Promise<TrustedLogKey | null> {
  if (path === undefined) return null
  const key = await readLogKey(await readText(path))
  if (key === null)
    throw new UsageError(`${path} is no key of a log: give a verifier key, a JWK or a JWK Set (Ed25519).`)
  return key
}
