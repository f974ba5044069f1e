import { afterAll, beforeAll, expect, test } from 'vitest'
import { createAliveWatch } from '../../libs/wiring/src/alive.ts'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: doctor names the one fault, and gives no advice about things that it could not check.
// Method: the real command against the real API, which loses its database or has no live processes.

const processes = useProcesses()
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({
    workers: 0,
    // The watch has read nothing, as in the first seconds of a service, so both checks pass.
    checks: (db, metrics) => createAliveWatch({ db, metrics }).checks,
  })
})
afterAll(() => curfew.stop())

const doctor = (...args: readonly string[]) =>
  runCurfew(processes, ['doctor', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

test('doctor is not content with a kind of process of which none is alive', async () => {
  expect(await curfew.client.readiness()).toMatchObject({ unavailable: [], degraded: [] })
  const none = await doctor()
  expect(none.code).toBe(1)
  expect(none.stdout).toMatch(/^WRONG +delivery workers +none is alive: accepted logouts wait/m)
  expect(none.stdout).toMatch(/^WRONG +bookkeepers +none is alive: receipts, /m)
  expect(none.stdout).toMatch(/^WRONG +live processes +0 delivery workers and 0 bookkeepers$/m)
  expect(none.stdout).toMatch(/^live processes: Start a delivery worker and a bookkeeper\.$/m)

  await curfew.startWorker()
  const half = await eventually(async () => {
    const { code, stdout } = await doctor()
    expect(stdout).toMatch(/^WRONG +live processes +1 delivery worker and 0 bookkeepers$/m)
    return { code, stdout }
  })
  expect(half.code).toBe(1)
  expect(half.stdout).toMatch(/^ok +delivery workers +run$/m)
  expect(half.stdout).toMatch(/^WRONG +bookkeepers +none is alive: receipts, /m)
  expect(half.stdout).toMatch(/^live processes: Start a bookkeeper\.$/m)
})

test('while the database is unavailable, doctor gives its fix only, and checks nothing that needs it', async () => {
  await curfew.gate.shut()
  const { code, stdout } = await doctor()
  expect(code).toBe(1)
  expect(stdout).toMatch(/^WRONG +database +is unavailable$/m)
  const checks = ['event log', 'delivery workers', 'bookkeepers', 'master key', 'lanes of the event log']
  for (const check of [...checks, 'quarantine', 'keys'])
    expect(stdout).toMatch(new RegExp(`^WRONG +${check} +not checked: the database is unavailable$`, 'm'))
  // The clocks of the service and of this machine need no database.
  expect(stdout.match(/^ok +\w+/gm)).toEqual([expect.stringMatching(/^ok +clock$/)])
  const fixes = stdout.split('\n').filter((line) => /^[a-z][\w ]*: /.test(line) && !line.startsWith('ok '))
  expect(fixes).toEqual([expect.stringMatching(/^database: Check that PostgreSQL at DATABASE_URL answers/)])
})
