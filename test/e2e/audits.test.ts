import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAuditedRp } from '../support/audited-rp.ts'
import { ISSUER, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an operator at a terminal, or a script, sets up logout audits, runs them and reads their results.
// Method: the real command against all services, with a real relying party.

const processes = useProcesses()

test('audits are set up, run, listed, scheduled and removed', async () => {
  await using curfew = await openCurfew({ bookkeepers: 1 })
  await using rp = await openAuditedRp(curfew, 'shop')
  const file = join(tmpdir(), `curfew-audit-${process.pid}.json`)
  await writeFile(file, JSON.stringify(rp.setup({ timeout_s: 1 })))
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['audit', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

  expect((await run('run')).code).toBe(1)
  const made = await run('schedule', 'shop', '--file', file, '--every', '1h')
  expect(made).toMatchObject({ code: 0, stderr: '' })
  expect(made.stdout).toMatch(/^schedule +every 1h, next at /m)
  expect(made.stdout).toContain('The first audit runs within a minute.')
  // A changed set-up keeps its schedule.
  const changed = await run('schedule', 'shop', '--file', file)
  expect(changed.stdout).toMatch(/^schedule +every 1h, /m)
  expect(changed.stdout).not.toContain('The first audit')
  await writeFile(file, '{\n  login: {}')
  const broken = await run('schedule', 'shop', '--file', file)
  expect([broken.code, broken.stderr]).toEqual([2, expect.stringContaining('is not JSON: line 2 is faulty')])
  for (const [text, fault] of [
    ['null', 'is not a JSON object'],
    ['[]', 'is not a JSON object'],
    [`{"0":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 'nested'],
  ] as const) {
    await writeFile(file, text)
    const refused = await run('schedule', 'shop', '--file', file)
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(fault)])
  }
  await rm(file)
  const unregistered = await run('schedule', 'nosuch')
  expect([unregistered.code, unregistered.stderr]).toEqual([
    1,
    expect.stringContaining('nosuch is registered'),
  ])
  const nowhere = await run('run', '--issuer', 'nope')
  expect([nowhere.code, nowhere.stderr]).toEqual([1, expect.stringContaining('issuer is registered as nope')])

  const passed = await run('run', '--client', 'shop', '--wait')
  expect([passed.code, passed.stdout.split('\n')]).toEqual([
    0,
    [expect.stringMatching(/^CLIENT +RESULT +REASON +MS$/), expect.stringMatching(/^shop +passed +\d+$/), ''],
  ])
  expect(passed.stderr).toContain('1 of 1 audits ended')

  rp.behave({ ends: false })
  const failed = await run('run', '--issuer', ISSUER, '--wait', '--json')
  expect(failed.code).toBe(1)
  const [audit] = JSON.parse(failed.stdout).audits
  expect(audit).toMatchObject({ result: 'failed', reason: 'session_survived' })
  const shown = await run('show', audit.id)
  expect(shown.code).toBe(1)
  expect(shown.stdout).toMatch(/^delivery +acknowledged, done$/m)
  expect((await run('list', '--client', 'shop', '--result', 'failed')).stdout).toContain(audit.id)

  expect((await run('schedule', 'shop', '--every', 'soon')).code).toBe(2)
  const often = await run('schedule', 'shop', '--every', '1m')
  expect([often.code, often.stderr]).toEqual([2, expect.stringContaining('--every must be 5m or more')])
  expect((await run('schedule', 'shop', '--off')).stdout).toContain('by hand only')
  expect(JSON.parse((await run('schedule', 'shop', '--json')).stdout)).toMatchObject({ every_s: null })
  expect((await run('schedule', 'shop', '--delete')).code).toBe(0)
  expect((await run('schedule', 'shop')).code).toBe(1)
})
