import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Client, createClient } from '@curfew/client'
import { afterEach } from 'vitest'

// Real processes of the project, started as users start them. They end with the test that started them.

export interface Ended {
  /** Exit status; null if a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface TestProcess {
  readonly pid: number
  /** All standard output so far. */
  readonly stdout: string
  /** All standard error so far. */
  readonly stderr: string
  readonly ended: Ended | null
  /**
   * Waits until standard output or error matches. @throws {Error} with the output, if the process ends or the time runs out
   * first.
   */
  says(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>
  signal(name: NodeJS.Signals): void
  /** Waits for the end. @throws {Error} with the output, if it takes longer than `timeoutMs`. */
  exit(timeoutMs?: number): Promise<Ended>
  /** Sends SIGKILL, and waits for the end. */
  kill(): Promise<void>
}

export interface StartOptions {
  /** Names the process in failures. */
  readonly name: string
  /** Path in the repository, such as `services/ingest/src/main.ts`. */
  readonly file: string
  readonly args?: readonly string[]
  /** The variables of the process, besides PATH, HOME and TMPDIR. It inherits no others. */
  readonly env?: Readonly<Record<string, string>>
}

export interface Processes {
  start(options: StartOptions): TestProcess
  /** Creates a data folder. The processes in it end with the test, and the folder is removed. */
  dataFolder(): Promise<string>
  /** Ends everything now. For processes that were started in `beforeAll`. */
  end(): Promise<void>
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** Processes share their compiled code, so that a start takes a third of the time. */
export const COMPILE_CACHE = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/compile') }
const TIMEOUT_MS = 60_000
const TAIL_LINES = 25
const LINE_LENGTH_MAX = 400

/** @param lifetime `test`: processes end with their test. `file`: the file calls `end` when it is done. */
export function useProcesses(lifetime: 'test' | 'file' = 'test'): Processes {
  const started: (TestProcess & { readonly name: string })[] = []
  const folders: string[] = []

  async function end(): Promise<void> {
    await Promise.all(started.splice(0).map((process) => process.kill()))
    for (const folder of folders.splice(0)) {
      endServers(folder, 'SIGQUIT')
      await gone(folder)
      const moved = movedTo(folder)
      for (const each of [folder, ...(moved === null ? [] : [moved])]) {
        await rm(each, { recursive: true, force: true, maxRetries: 5 })
      }
    }
  }
  const endAtOnce = () => {
    for (const process of started) if (process.ended === null) process.signal('SIGKILL')
    for (const folder of folders) endServers(folder, 'SIGKILL')
  }

  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') {
      for (const { name, stdout, stderr } of started) {
        process.stderr.write(`\n--- ${name}\n${tail(stdout)}\n${tail(stderr)}\n`)
      }
    }
    if (lifetime === 'test') await end()
  })
  process.once('exit', endAtOnce)

  return {
    start(options) {
      const child = startChild(options)
      started.push(Object.assign(child, { name: options.name }))
      return child
    },
    async dataFolder() {
      const folder = await mkdtemp(join(tmpdir(), 'curfew-e2e-'))
      // As a user's own folder: a folder that only root may enter is a case with its own test.
      await chmod(folder, 0o755)
      folders.push(folder)
      return folder
    },
    end,
  }
}

function startChild({ name, file, args = [], env = {} }: StartOptions): TestProcess {
  const child: ChildProcess = spawn(process.execPath, [join(ROOT, file), ...args], {
    cwd: ROOT,
    env: { ...COMPILE_CACHE, PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: tmpdir(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  let ended: Ended | null = null
  const watchers = new Set<() => void>()
  const notify = () => {
    for (const watcher of watchers) watcher()
  }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (chunk: string) => {
      output[stream] += chunk
      notify()
    })
  }
  // `close` follows the last output.
  child.once('close', (code, signal) => {
    ended = { code, signal }
    notify()
  })

  async function until<Result>(what: string, look: () => Result | null, timeoutMs: number): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    const fail = (why: string) =>
      reject(new Error(`${name} ${why}:\n${tail(output.stdout)}\n${tail(output.stderr)}`))
    const watch = () => {
      const found = look()
      if (found !== null) resolve(found)
      else if (ended !== null) fail(`ended (${ended.signal ?? ended.code}) before ${what}`)
    }
    const timer = setTimeout(() => fail(`took longer than ${timeoutMs} ms: ${what}`), timeoutMs)
    watchers.add(watch)
    try {
      watch()
      return await promise
    } finally {
      clearTimeout(timer)
      watchers.delete(watch)
    }
  }
  const exit = (timeoutMs = TIMEOUT_MS) => until('the end', () => ended, timeoutMs)
  return {
    pid: child.pid ?? -1,
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    get ended() {
      return ended
    },
    says: (pattern, timeoutMs = TIMEOUT_MS) =>
      until(String(pattern), () => pattern.exec(output.stdout) ?? pattern.exec(output.stderr), timeoutMs),
    signal: (signal) => void child.kill(signal),
    exit,
    async kill() {
      child.kill('SIGKILL')
      await exit()
    },
  }
}

function tail(text: string): string {
  const lines = text.trimEnd().split('\n').slice(-TAIL_LINES)
  return lines.map((line) => line.slice(0, LINE_LENGTH_MAX)).join('\n')
}

/** The database cluster of a data folder. As root it may be elsewhere, see `moved-to`. */
function clusterOf(dataFolder: string): string {
  return join(movedTo(dataFolder) ?? join(dataFolder, 'postgres'), 'cluster')
}

function movedTo(dataFolder: string): string | null {
  const pointer = join(dataFolder, 'postgres', 'moved-to')
  return existsSync(pointer) ? readFileSync(pointer, 'utf8').trim() : null
}

/** The file with PostgreSQL's process id. */
export function lockFileOf(dataFolder: string): string {
  return join(clusterOf(dataFolder), 'postmaster.pid')
}

/**
 * The live processes of the PostgreSQL in `dataFolder`, postmaster first. Each works in its data folder, or the parent while it
 * starts.
 */
export function serversOf(dataFolder: string): readonly number[] {
  const cluster = clusterOf(dataFolder)
  if (!existsSync(cluster)) return []
  const [noted = 0] = existsSync(lockFileOf(dataFolder))
    ? readFileSync(lockFileOf(dataFolder), 'utf8').split('\n').map(Number)
    : []
  if (process.platform !== 'linux') return noted > 0 && isAlive(noted) ? [noted] : []
  const real = realpathSync(cluster)
  const folders = [real, dirname(real)]
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && folders.includes(workingFolderOf(entry)))
    .map(Number)
    .sort((a, b) => Number(b === noted) - Number(a === noted))
}

function workingFolderOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    // It has ended meanwhile, or belongs to another user.
    return ''
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Signals the postmaster of the PostgreSQL in `dataFolder`. @returns whether it was running. */
export function endServers(dataFolder: string, signal: NodeJS.Signals): boolean {
  const [postmaster] = serversOf(dataFolder)
  if (postmaster === undefined) return false
  try {
    return process.kill(postmaster, signal)
  } catch {
    return false
  }
}

/** Resolves when no process of the PostgreSQL in `dataFolder` remains. */
export async function gone(dataFolder: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; serversOf(dataFolder).length > 0; await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`PostgreSQL still runs in ${dataFolder}`)
  }
}

/** `curfew up` in its own process. */
export interface Standalone {
  readonly process: TestProcess
  readonly url: string
  /** The key made at the first start; null otherwise. */
  readonly adminKey: string | null
  /** Uses the given or new key. */
  readonly client: Client
}

export interface StandaloneOptions {
  readonly dataFolder: string
  readonly args?: readonly string[]
  /** More variables. CURFEW_DATA is set, and the port is chosen freely by default. */
  readonly env?: Readonly<Record<string, string>>
  /** The key made at an earlier start. */
  readonly adminKey?: string | null
  /** Whether the process believes that a person reads its output. */
  readonly terminal?: boolean
  /** The output that shows a finished start. Default: that it is ready. */
  readonly says?: RegExp
  /** The longest wait for the start. Default 60 s. */
  readonly timeoutMs?: number
}

const TERMINAL = {
  NODE_OPTIONS: '--import=data:text/javascript,process.stdout.isTTY=process.stderr.isTTY=true',
}

/** Starts `curfew up` without waiting. */
export function spawnStandalone(
  processes: Processes,
  { dataFolder, args = [], env = {}, terminal = false }: StandaloneOptions,
): TestProcess {
  return processes.start({
    name: 'curfew up',
    file: 'services/cli/src/main.ts',
    args: ['up', ...args],
    env: { CURFEW_DATA: dataFolder, CURFEW_PORT: '0', ...(terminal && TERMINAL), ...env },
  })
}

/** Starts `curfew up`, and waits until it is ready, or until it says `options.says`. */
export async function startStandalone(processes: Processes, options: StandaloneOptions): Promise<Standalone> {
  const process = spawnStandalone(processes, options)
  await process.says(options.says ?? /"process\.ready"/, options.timeoutMs)
  const [, url = ''] = /server\.listening","url":"([^"]+)"/.exec(process.stderr) ?? []
  // A start that makes a key names its file; a terminal would show the key.
  const [, keyFile] = /admin-key\.generated","path":"([^"]+)"/.exec(process.stderr) ?? []
  const adminKey = keyFile === undefined ? null : readFileSync(keyFile, 'utf8').trim()
  const key = adminKey ?? options.adminKey ?? options.env?.CURFEW_ADMIN_KEY ?? ''
  return { process, url, adminKey, client: createClient({ url, key }) }
}

/** Runs a command of the CLI to its end. @returns its output and exit status. */
export async function runCurfew(
  processes: Processes,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const command = processes.start({
    name: `curfew ${args.join(' ')}`,
    file: 'services/cli/src/main.ts',
    args: [...args],
    env,
  })
  const { code } = await command.exit()
  return { code, stdout: command.stdout, stderr: command.stderr }
}
