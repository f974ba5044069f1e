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

// A shell in which the blocks of one page run one after another, as their reader pastes them.

export interface Ran {
  readonly stdout: string
  readonly stderr: string
  /** What is wrong with it; null where the block ended with the status that it should. */
  readonly fault: string | null
}

export interface Shell {
  /** @param exit the status that the block should end with. */
  run(script: string, exit: number): Promise<Ran>
  close(): void
}

export interface ShellOptions {
  /** What the reader has exported. */
  readonly env: Readonly<Record<string, string>>
  /** Runs `npx curfew` by npx itself, which takes longer than the command. */
  readonly realNpx: boolean
}

/** Runs in a copy of the repository's folder, made of links, so that no page writes into the repository. */
export function openShell({ env, realNpx }: ShellOptions): Shell {
  const folder = mkdtempSync(join(tmpdir(), 'curfew-docs-'))
  const work = join(folder, 'curfew')
  const bin = join(folder, 'bin')
  for (const each of [work, bin]) mkdirSync(each)
  for (const name of readdirSync(ROOT).filter((each) => !/^\.(git|curfew)$/.test(each))) {
    symlinkSync(join(ROOT, name), join(work, name))
  }
  // A status of 400 or more fails a block, which curl by itself does not do.
  writeShim(bin, 'curl', 'exec /usr/bin/env -S PATH="$REST" curl --fail-with-body "$@"')
  if (!realNpx) {
    const command = `[ "$1" = curfew ] && shift && exec node '${join(ROOT, 'services/cli/src/main.ts')}' "$@"`
    writeShim(bin, 'npx', `${command}\nexec /usr/bin/env -S PATH="$REST" npx "$@"`)
  }
  const rest = `${dirname(process.execPath)}:${process.env.PATH ?? ''}`
  const bash = spawn('bash', ['-euo', 'pipefail'], {
    cwd: work,
    env: { PATH: `${bin}:${rest}`, REST: rest, HOME: process.env.HOME, TMPDIR: tmpdir(), ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
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
      bash.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function writeShim(bin: string, name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}
