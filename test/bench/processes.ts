import { type ChildProcess, fork, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { chmod, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Client, createClient } from '@curfew/client'

/** A child process of the benchmark that answers one question at a time. Further questions wait. */
export interface Asker {
  /** @throws {Error} if the child has ended. */
  ask<Answer>(question: unknown): Promise<Answer>
  stop(): void
}

/** Forks a file of this folder. Its first message tells that it is ready. */
export async function openAsker<Hello>(
  file: string,
  args: readonly string[] = [],
): Promise<Asker & { readonly hello: Hello }> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), args, { serialization: 'advanced' })
  const gone = once(child, 'exit').then(() => Promise.reject(new Error(`${file} has ended`)))
  // A question reports the end of the child. After the last question, the end is not an error.
  gone.catch(() => undefined)
  const nextMessage = async <Message>() =>
    ((await Promise.race([once(child, 'message'), gone])) as [Message])[0]
  const hello = await nextMessage<Hello>()
  let before: Promise<unknown> = Promise.resolve()
  async function askNow<Answer>(question: unknown): Promise<Answer> {
    const answer = nextMessage<Answer>()
    child.send(question as never)
    return answer
  }
  return {
    hello,
    ask<Answer>(question: unknown) {
      const answer = before.then(() => askNow<Answer>(question))
      before = answer.catch(() => undefined)
      return answer
    },
    stop: () => {
      if (child.connected) child.disconnect()
    },
  }
}

/** Curfew as shipped, in its own process, over an embedded PostgreSQL with the shipped durability. */
export interface Subject {
  readonly client: Client
  readonly url: string
  /** The admin key of this Curfew. */
  readonly key: string
  readonly process: ChildProcess
  /** The number of deliveries that the ledger has acknowledged. */
  acknowledged(): Promise<number>
  stop(): Promise<void>
}

/** Curfew keeps collected metrics for one second. A little longer than that, in milliseconds. */
const METRICS_KEPT_MS = 1_050

export async function openSubject(port: number, env: Readonly<Record<string, string>>): Promise<Subject> {
  const dataDir = await mkdtemp(join(tmpdir(), 'curfew-bench-'))
  // Under root the database runs as another user, which must be able to enter the folder.
  await chmod(dataDir, 0o711)
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const logPath = join(dataDir, 'stderr.log')
  const log = await open(logPath, 'a')
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../../services/standalone/src/main.ts', import.meta.url))],
    {
      // The log is written as in production, but to a file.
      stdio: ['ignore', 'ignore', log.fd],
      env: {
        ...process.env,
        CURFEW_DATA: dataDir,
        CURFEW_ADMIN_KEY: key,
        CURFEW_PORT: String(port),
        CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
        // The default of production, with a line for each acknowledgement. `LOG_LEVEL=warn npm run bench` measures without.
        LOG_LEVEL: process.env.LOG_LEVEL ?? 'info',
        // One credential may post as fast as Curfew accepts.
        CURFEW_REQUESTS_PER_SECOND: '1000000',
        ...env,
      },
    },
  )
  // Curfew ends with the benchmark, however that ends.
  const onExit = () => child.kill('SIGINT')
  process.once('exit', onExit)
  const url = `http://127.0.0.1:${port}`
  const client = createClient({ url, key })
  for (let tries = 0; ; tries++) {
    const response = await fetch(`${url}/readyz`).catch(() => null)
    if (response?.ok === true) break
    if (child.exitCode !== null || tries > 1_200) {
      child.kill('SIGINT')
      throw new Error(`Curfew did not start: ${(await readFile(logPath, 'utf8')).slice(-2_000)}`)
    }
    await sleep(100)
  }
  let askedMs = Number.NEGATIVE_INFINITY
  return {
    client,
    url,
    key,
    process: child,
    async acknowledged() {
      // Within one second Curfew would return the same metrics again.
      await sleep(Math.max(0, askedMs + METRICS_KEPT_MS - performance.now()))
      askedMs = performance.now()
      const text = await (await fetch(`${url}/metrics`)).text()
      return Number(/^curfew_deliveries_settled_total\{state="acknowledged".*\} (\d+)/m.exec(text)?.[1] ?? 0)
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit')
        child.kill('SIGINT')
        await exited
      }
      process.off('exit', onExit)
      await log.close()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** Processor time of a process and its descendants, in milliseconds, by group; null if /proc does not exist. */
export function cpuOf(root: number): { node: number; postgres: number } | null {
  try {
    const all = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => {
        const stat = readStat(Number(pid))
        return stat === null ? [] : [stat]
      })
    const children = (pid: number): typeof all =>
      all.filter(({ parent }) => parent === pid).flatMap((child) => [child, ...children(child.pid)])
    const own = all.find(({ pid }) => pid === root)
    return { node: own?.cpuMs ?? 0, postgres: children(root).reduce((sum, { cpuMs }) => sum + cpuMs, 0) }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

/**
 * Resets the value of `peakMemoryOf` to the current memory. If that is not possible, the old peak remains, which is never too
 * low.
 */
export function forgetPeakMemoryOf(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
  }
}

/** The peak memory of a process, in MiB; null if /proc does not exist. */
export function peakMemoryOf(pid: number): number | null {
  try {
    const kib = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kib === undefined ? null : Number(kib) / 1_024
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

/** Linux counts processor time in ticks of 10 ms. */
const TICK_MS = 10

function readStat(pid: number): { pid: number; parent: number; cpuMs: number } | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return { pid, parent: Number(fields[1]), cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS }
  } catch {
    // The process has ended meanwhile.
    return null
  }
}
