import { readFile, writeFile } from 'node:fs/promises'
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

/** Writes to a file, or out. */
export async function writeText(path: string | undefined, text: string): Promise<void> {
  if (path === undefined) process.stdout.write(text)
  else await writeFile(path, text)
}

/** The key that a file has, if one is named. @throws {UsageError} where it is none. */
export async function readKey(path: string | undefined): Promise<TrustedLogKey | null> {
  if (path === undefined) return null
  const key = await readLogKey(await readText(path))
  if (key === null)
    throw new UsageError(`${path} is no key of a log: give a verifier key, a JWK or a JWK Set (Ed25519).`)
  return key
}
