import { type ChildProcess, spawn } from 'node:child_process'
import { vi } from 'vitest'
import { end } from '../../deploy/kafka/process.ts'

/** A Java application starts in seconds. On a busy machine it takes much longer. */
const START_TIMEOUT_MS = 90_000

/** A server in a process of its own. */
export interface Served {
  /** Its output so far. */
  readonly log: string
  close(): Promise<void>
}

/**
 * Starts a server, and waits until it answers.
 *
 * @param options.url an address that it answers at.
 * @throws {Error} with its output if it ends instead.
 */
export async function serve(
  command: string,
  args: readonly string[],
  {
    url,
    cwd,
    env = {},
  }: { readonly url: string; readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<Served> {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
  }
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  const close = async () => {
    await end(child, 'SIGTERM')
    process.removeListener('exit', endWithUs)
  }
  try {
    await untilServing(child, url, () => log)
  } catch (error) {
    await close()
    throw error
  }
  return {
    get log() {
      return log
    },
    close,
  }
}

/** Waits for the first answer with any status. @throws {Error} with the log if the process ends instead. */
export async function untilServing(child: ChildProcess, url: string, log: () => string): Promise<void> {
  let ended = false
  child.once('exit', () => {
    ended = true
  })
  child.once('error', () => {
    ended = true
  })
  const asked = async () => {
    if (ended) return false
    await (await fetch(url, { redirect: 'manual' })).body?.cancel()
    return true
  }
  const answered = await vi.waitFor(asked, { timeout: START_TIMEOUT_MS, interval: 50 })
  if (!answered) throw new Error(`${child.spawnfile} did not start:\n${log()}`)
}
