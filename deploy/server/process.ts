import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface Finished {
  /** Exit status; null when it could not be started, was ended by a signal or took too long. */
  readonly code: number | null
  /** Standard output and error, in the order in which they arrived. */
  readonly output: string
  /** The most telling line, for people: the first error, otherwise the last line. */
  readonly summary: string
}

/** Runs a command to its end. Never throws: a missing command is a result like any other. */
export async function run(
  command: string,
  args: readonly string[],
  { timeoutMs, onLine }: { timeoutMs: number; onLine?: (line: string) => void },
): Promise<Finished> {
  const lines: string[] = []
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs })
  readLines(child, (line) => {
    lines.push(line)
    onLine?.(line)
  })
  return new Promise((resolve) => {
    const finish = (code: number | null, fallback: string) => {
      const printed = lines.filter((line) => line.trim() !== '')
      const summary = (
        printed.find((line) => /error|cannot|denied/i.test(line)) ??
        printed.at(-1) ??
        fallback
      ).trim()
      resolve({ code, output: lines.join('\n'), summary })
    }
    child.once('error', (error) => finish(null, error.message))
    child.once('close', (code, signal) => finish(code, signal === null ? 'nothing' : `ended by ${signal}`))
  })
}

const TAIL_LINES = 40

/** How to see that a server serves. */
export interface Readiness {
  /** The name of the server in errors. */
  readonly server: string
  /** The server logs a line with this text when it serves. */
  readonly says: string
  readonly timeoutMs: number
}

/**
 * Resolves when the log of `child` says that it serves.
 *
 * @throws {Error} when `child` ends before that or takes longer than `timeoutMs`, with the end of its log.
 */
export async function untilReady(child: ChildProcess, { server, says, timeoutMs }: Readiness): Promise<void> {
  const tail: string[] = []
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string) => {
      clearTimeout(timer)
      reject(new Error(`${server} ${why}. The end of its log:\n${tail.join('\n')}`))
    }
    const timer = setTimeout(() => fail(`did not start within ${timeoutMs} ms`), timeoutMs)
    // Keeps reading after the server serves: a full pipe would block it.
    readLines(child, (line) => {
      tail.push(line)
      if (tail.length > TAIL_LINES) tail.shift()
      if (!line.includes(says)) return
      clearTimeout(timer)
      resolve()
    })
    child.once('error', (error) => fail(`could not be started: ${error.message}`))
    child.once('close', (code, signal) => fail(`ended with ${signal ?? code} before it served`))
  })
}

/** Whether `child` has ended. */
export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

/** Ends `child` with `signal`. Resolves when it has ended. */
export async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (hasEnded(child)) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
}

function readLines(child: ChildProcess, onLine: (line: string) => void): void {
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', onLine)
  }
}
