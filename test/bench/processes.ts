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

/** A child of the benchmark that is asked one thing at a time; who asks meanwhile waits. */
export interface Asker {
  /** @throws {Error} when the child has ended. */
  ask<Answer>(question: unknown): Promise<Answer>
  stop(): void
}

/** Forks a file beside this one; its first message says that it is ready. */
export async function openAsker<Hello>(
  file: string,
  args: readonly string[] = [],
): Promise<Asker & { readonly hello: Hello }> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), args, { serialization: 'advanced' })
  const gone = once(child, 'exit').then(() => Promise.reject(new Error(`${file} has ended`)))
  // Whoever asks hears of it; at the end nobody has to.
  gone.catch(() => undefined)
  const said = async <Message>() => ((await Promise.race([once(child, 'message'), gone])) as [Message])[0]
  const hello = await said<Hello>()
  let before: Promise<unknown> = Promise.resolve()
  async function askNow<Answer>(question: unknown): Promise<Answer> {
    const answer = said<Answer>()
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

/** Curfew as it is shipped, in a process of its own over an embedded PostgreSQL that is as durable as it is shipped. */
export interface Subject {
  readonly client: Client
  readonly url: string
  /** Its admin key. */
  readonly key: string
  readonly process: ChildProcess
  /** Deliveries that the ledger has as acknowledged. */
  acknowledged(): Promise<number>
  stop(): Promise<void>
}

/** Metrics of one second are the same for all that ask, in milliseconds, and some. */
const METRICS_KEPT_MS = 1_050

export async function openSubject(port: number, env: Readonly<Record<string, string>>): Promise<Subject> {
  const dataDir = await mkdtemp(join(tmpdir(), 'curfew-bench-'))
  // As root the database runs as another user, who must be able to come by.
  await chmod(dataDir, 0o711)
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const logPath = join(dataDir, 'stderr.log')
  const log = await open(logPath, 'a')
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../../services/standalone/src/main.ts', import.meta.url))],
    {
      // Its log is written as it would be, but nobody reads a line for each of ten thousand failed attempts.
      stdio: ['ignore', 'ignore', log.fd],
      env: {
        ...process.env,
        CURFEW_DATA: dataDir,
        CURFEW_ADMIN_KEY: key,
        CURFEW_PORT: String(port),
        CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
        LOG_LEVEL: 'warn',
        // One credential posts as fast as Curfew takes it.
        CURFEW_REQUESTS_PER_SECOND: '1000000',
        ...env,
      },
    },
  )
  // However the benchmark ends, Curfew does not outlive it.
  const onExit = () => child.kill('SIGINT')
  process.once('exit', onExit)
  const url = `http://127.0.0.1:${port}`
  const client = createClient({ url, key })
  for (let tries = 0; ; tries++) {
    const response = await fetch(`${url}/readyz`).catch(() => null)
    if (response?.ok === true) break
    if (child.exitCode !== null || tries > 300) {
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
      // Within a second of it, Curfew would give the same metrics again.
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

/** Processor time of a process and of everything it started, in milliseconds by group; null where /proc is not. */
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

/** Lets `peakMemoryOf` begin anew from what the process has now. Where that cannot be done the old peak stands: never too low. */
export function forgetPeakMemoryOf(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
  }
}

/** Most memory that a process has had, in MiB; null where /proc is not. */
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
    // It has ended meanwhile.
    return null
  }
}
