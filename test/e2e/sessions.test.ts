import { expect, test } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: support staff at a terminal, or a script, see who holds which session and which ought to be over. Method: the real
// command against all services.

const processes = useProcesses()
const EVENT = '01938c2e-0000-7000-8000-000000000001'

test('who holds which session, and which ought to be over', async () => {
  await using curfew = await openCurfew()
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['sessions', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  const expires_at = new Date(Date.now() + 3_600_000).toISOString()
  const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'mail', expires_at }

  expect(await run('list', '--iss', ISS, '--sub', 'alice')).toEqual({
    code: 0,
    stdout: 'No sessions.\n',
    stderr: '',
  })
  await curfew.client.postSessions([
    { ...session, device: 'phone' },
    { ...session, client_id: 'wiki' },
    { ...session, sid: 's2' },
  ])
  await eventually(async () => {
    expect((await curfew.client.listSessions({ iss: ISS, sub: 'alice' })).items).toHaveLength(3)
  })
  expect((await run('list', '--iss', ISS, '--sub', 'alice')).stdout.split('\n')).toEqual([
    expect.stringMatching(/^CLIENT +SUBJECT +SESSION +DEVICE +STARTED \(UTC\) +EXPIRES \(UTC\) +LOGOUT$/),
    expect.stringMatching(/^mail +alice +s1 +phone +\d{4}-\d\d-\d\d \d\d:\d\d +\d{4}-\d\d-\d\d \d\d:\d\d$/),
    expect.stringMatching(/^wiki +alice +s1 /),
    expect.stringMatching(/^mail +alice +s2 /),
    '',
  ])
  const json = await run('list', '--iss', ISS, '--sid', 's1', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject({ items: [{ client_id: 'mail' }, { client_id: 'wiki' }] })
  const few = await run('list', '--iss', ISS, '--sub', 'alice', '--limit', '2')
  expect(few.stdout.split('\n').slice(2)).toEqual([
    expect.stringMatching(/^wiki/),
    'There are more: --limit, or narrow it down.',
    '',
  ])

  expect((await run('orphans')).stdout).toBe('No orphaned sessions.\n')
  await curfew.db.query("update sessions set logout_event_id = $1, orphaned_at = now() where sid = 's1'", [
    EVENT,
  ])
  expect((await run('orphans', '--client', 'wiki')).stdout.split('\n')).toEqual([
    expect.stringMatching(/^SINCE \(UTC\) +ISSUER +CLIENT +SUBJECT +SESSION +WHY +EVENT$/),
    expect.stringMatching(
      /^\d{4}-\d\d-\d\d \d\d:\d\d +main +wiki +alice +s1 +history is no longer kept +01938c2e-/,
    ),
    '',
  ])
  const orphans = JSON.parse((await run('orphans', '--issuer', 'main', '--json')).stdout)
  expect(orphans.items).toHaveLength(2)
  expect((await run('list', '--iss', ISS, '--sub', 'alice')).stdout).toContain(EVENT)

  expect((await run('list', '--sub', 'alice')).code).toBe(2)
  expect((await run('list', '--iss', ISS)).code).toBe(2)
  expect((await run('list', '--iss', ISS, '--sub', 'alice', '--sid', 's1')).code).toBe(2)
  expect((await run('orphans', '--limit', '0')).code).toBe(2)
  expect(await run('list', '--iss', 'nowhere', '--sub', 'alice')).toMatchObject({ code: 1, stdout: '' })
})
