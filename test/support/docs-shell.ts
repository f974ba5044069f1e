import { spawn } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ROOT } from './docs-pages.ts'
import { COMPILE_CACHE } from './processes.ts'

// A shell that runs the blocks of one page one after another, as a reader who pastes them does.

export interface Ran {
  readonly stdout: string
  readonly stderr: string
  /** The failure; null if the block ended with the expected status. */
  readonly fault: string | null
}

export interface Shell {
  /** @param exit the expected exit status of the block. */
  run(script: string, exit: number): Promise<Ran>
  close(): void
}

export interface ShellOptions {
  /** The exported variables. */
  readonly env: Readonly<Record<string, string>>
  /** Runs `npx curfew` through npx itself, which takes longer than the command. */
  readonly realNpx: boolean
}

/** Runs in a folder of links to the repository's files, so that no page writes into the repository. */
export function openShell({ env, realNpx }: ShellOptions): Shell {
  const folder = mkdtempSync(join(tmpdir(), 'curfew-docs-'))
  const work = join(folder, 'curfew')
  const bin = join(folder, 'bin')
  for (const each of [work, bin]) mkdirSync(each)
  for (const name of readdirSync(ROOT).filter((each) => !/^\.(git|curfew)$/.test(each))) {
    symlinkSync(join(ROOT, name), join(work, name))
  }
  // Makes a status of 400 or more fail the block, which curl does not do by default.
  writeShim(bin, 'curl', 'exec /usr/bin/env -S PATH="$REST" curl --fail-with-body "$@"')
  if (!realNpx) {
    const command = `[ "$1" = curfew ] && shift && exec node '${join(ROOT, 'services/cli/src/main.ts')}' "$@"`
    writeShim(bin, 'npx', `${command}\nexec /usr/bin/env -S PATH="$REST" npx "$@"`)
  }
  const rest = `${dirname(process.execPath)}:${process.env.PATH ?? ''}`
  const bash = spawn('bash', ['-euo', 'pipefail'], {
    cwd: work,
    env: {
      ...COMPILE_CACHE,
      ...{ PATH: `${bin}:${rest}`, REST: rest, HOME: process.env.HOME, TMPDIR: tmpdir() },
      ...env,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
    // Leads a process group, so that `close` also ends what a block left in the background.
    detached: true,
  })
  bash.stdout.setEncoding('utf8')
  let blocks = 0
  let ended: number | null = null
  const closed = new Promise<void>((resolve) => {
    bash.once('close', (code) => {
      ended = code ?? -1
      resolve()
    })
  })

  return {
    async run(script, exit) {
      const file = join(folder, `block-${++blocks}`)
      writeFileSync(file, script)
      const source = `source '${file}' >'${file}.out' 2>'${file}.err' </dev/null`
      const checked = `code=0; (${source}) || code=$?; echo "exit $code"`
      const done = new Promise<string>((resolve) => bash.stdout.once('data', resolve))
      bash.stdin.write(exit === 0 ? `${source}\necho "exit 0"\n` : `${checked}\n`)
      const said = await Promise.race([done, closed.then(() => `exit ${ended}`)])
      const read = (kind: string) => readFileSync(`${file}.${kind}`, 'utf8')
      const wrong = said.trim() !== `exit ${exit}`
      return {
        stdout: read('out'),
        stderr: read('err'),
        fault: wrong ? `ended with ${said.trim()}, not ${exit}` : null,
      }
    },
    close() {
      if (bash.pid !== undefined) killGroup(bash.pid)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Kills a process group. A page may have ended all its processes before. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

function writeShim(bin: string, name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}
