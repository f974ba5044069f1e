import { expect, test } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an operator erases a subject from a terminal or a script, and the exit status shows whether the erasure is complete.
// Method: the real command against all services.

const processes = useProcesses()

test('an erasure waits for dead letters, and completes with --abandon', async () => {
  await using curfew = await openCurfew({ bookkeepers: 1 })
  await using mail = await openRelyingParty(curfew, { clientId: 'mail', curfew: { retry_schedule_ms: [] } })
  mail.behave({ status: 503 })
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['subjects', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const event = await curfew.client.getLogoutEvent(id, { wait: 20 })
  expect(event.deliveries).toMatchObject([{ state: 'dead_lettered' }])
  await eventually(async () => expect((await curfew.db.query('select from journal')).rows).toEqual([]))

  const [unasked, waiting] = await Promise.all([
    run('erase', 'alice'),
    run('erase', 'alice', '--issuer', 'main', '--yes'),
  ])
  expect(unasked).toMatchObject({ code: 2, stdout: '' })
  expect(unasked.stderr).toContain('--yes')
  expect(waiting).toMatchObject({ code: 1, stderr: '' })
  expect(waiting.stdout).toContain('Waiting:\n1  Dead letters: replay them (curfew dlq), or erase them')
  // The output does not ask the operator to wait for work that only a person can do.
  expect(waiting.stdout).not.toContain('by itself')
  const [, request = ''] = /curfew subjects show (\S+)\n$/.exec(waiting.stdout) ?? []

  const given = await run('erase', 'alice', '--abandon', '--yes', '--json')
  expect(given).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(given.stdout)).toMatchObject({ id: request, status: 'completed', erased: { events: 1 } })
  const shown = await run('show', request)
  expect(shown.code).toBe(0)
  expect(shown.stdout).toContain('Nothing is left.')
  expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ sub: null })
})
