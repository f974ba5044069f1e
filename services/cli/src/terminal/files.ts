import { readFile, writeFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { type Checkpoint, parseCheckpointText, parseNote } from '@curfew/domain'
import { readLogKey, type TrustedLogKey } from '@curfew/tokens'
import { UsageError } from './arguments.ts'

/** The text of a file, or of standard input for `-`, in UTF-8 or UTF-16. @throws {UsageError} */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path)
  try {
    return new TextDecoder(encodingOf(bytes), { fatal: true }).decode(bytes)
  } catch (error) {
    throw new UsageError(`${path} is not text in UTF-8 or UTF-16. Save it as UTF-8.`, { cause: error })
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return path === '-' ? await buffer(process.stdin) : await readFile(path)
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

/** The encoding of a text that begins with ASCII. PowerShell writes UTF-16, with or without a byte order mark. */
function encodingOf([first, second]: Uint8Array): 'utf-8' | 'utf-16le' | 'utf-16be' {
  if ((first === 0xff && second === 0xfe) || (first !== 0 && second === 0)) return 'utf-16le'
  return (first === 0xfe && second === 0xff) || first === 0 ? 'utf-16be' : 'utf-8'
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
