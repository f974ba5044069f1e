import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: the tab key completes the words that the command accepts.
// Method: the printed scripts in the real shells. bash is everywhere; zsh and fish have tests where they are installed.

const processes = useProcesses()
const isInstalled = (shell: string) => spawnSync(shell, ['--version']).status === 0
let folder = ''
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'curfew-completion-'))
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, stdout, stderr } = await runCurfew(processes, ['completion', shell], {})
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    writeFileSync(join(folder, shell), stdout)
  }
  writeFileSync(join(folder, 'realm export.json'), '')
})
afterAll(() => rmSync(folder, { recursive: true }))

const CASES = [
  { words: ['d'], offers: ['deliveries', 'dlq', 'doctor'] },
  { words: ['dlq', 'r'], offers: ['replay'] },
  { words: ['help', 'rec'], offers: ['receipt'] },
  { words: ['rp', 'import', '--d'], offers: ['--dry-run'] },
  { words: ['up', '--d'], offers: ['--demo'] },
  { words: ['dlq', 'list', '--js'], offers: ['--json'] },
  { words: ['deliveries', 'list', '--state', 'a'], offers: ['acknowledged'] },
  { words: ['sla', '--by', 'h'], offers: ['hour'] },
  // An id is not guessed.
  { words: ['dlq', 'list', '--client', ''], offers: [] },
  { words: ['rp', 'import', 'realm'], offers: ['realm export.json'] },
  { words: ['receipt', 'get', 'ID', '--out', 'realm'], offers: ['realm export.json'] },
]

test.each(CASES)('bash completes $words to $offers', ({ words, offers }) => {
  const script = `source ./bash; COMP_WORDS=(curfew "$@"); COMP_CWORD=$#; _curfew; printf '%s\\n' "\${COMPREPLY[@]}"`
  const found = execFileSync('bash', ['-c', script, 'bash', ...words], { cwd: folder, encoding: 'utf8' })
  expect(found.split('\n').filter((line) => line !== '')).toEqual(offers)
})

test.each(isInstalled('fish') ? CASES : [])('fish completes $words to $offers', ({ words, offers }) => {
  const script = `source ./fish; complete -C 'curfew ${words.join(' ')}'`
  const found = execFileSync('fish', ['-N', '-c', script], { cwd: folder, encoding: 'utf8' })
  const names = found.split('\n').flatMap((line) => line.split('\t', 1).filter((name) => name !== ''))
  // fish offers values that only contain the word as well, and escapes a blank.
  if (offers.length === 0) expect(names).toEqual([])
  else expect(names.map((name) => name.replaceAll('\\', ''))).toEqual(expect.arrayContaining(offers))
})

test.each(['zsh'].filter(isInstalled))('%s reads the script', () => {
  const script =
    'autoload -Uz compinit; compinit -u -D; source ./zsh; [[ $_comps[curfew] == _curfew ]]; print $?'
  expect(execFileSync('zsh', ['-f', '-c', script], { cwd: folder, encoding: 'utf8' })).toBe('0\n')
})
