import { randomUUID } from 'node:crypto'
import type { QuarantinedContent, QuarantinedRecord } from '@curfew/contract'
import { quarantine } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Curfew, ISS, openCurfew } from '../support/curfew.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: an operator at a terminal, or a script, lists accepted records that could not be planned, and requeues or dismisses them.
// Method: the real command against the real services.

const processes = useProcesses()
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  await curfew.client.putIssuer('main', { iss: ISS })
})
afterAll(() => curfew.stop())
beforeEach(() => curfew.db.query('truncate quarantined_records restart identity'))

async function run(...args: readonly string[]) {
  const command = processes.start({
    name: `curfew quarantine ${args[0]}`,
    file: 'services/cli/src/main.ts',
    args: ['quarantine', ...args],
    env: { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey },
  })
  const { code } = await command.exit()
  return { code, stdout: command.stdout, stderr: command.stderr }
}

async function hold(kind: 'conflict' | 'unreadable', value: string): Promise<void> {
  const record = { lane: 'interactive', position: randomUUID(), key: 'k', headers: { ce_id: 'x' } } as const
  const reason = `${kind}, in words`
  await quarantine(curfew.db, [{ record: { ...record, value: Buffer.from(value) }, kind, reason }])
}

test('records are listed, shown, requeued and dismissed', async () => {
  expect(await run('list')).toMatchObject({ code: 0, stdout: 'No quarantined records.\n' })
  await hold('conflict', JSON.stringify({ iss: ISS, sub: 'alice' }))
  await hold('unreadable', 'a bell\u0007 for the terminal')
  await hold('unreadable', 'x'.repeat(70_000))
  const listed = await run('list')
  expect(listed).toMatchObject({ code: 0, stderr: '' })
  expect(listed.stdout.split('\n')).toEqual([
    expect.stringMatching(/^ID +QUARANTINED \(UTC\) +ISSUER +LANE +KIND +STATE +REASON$/),
    expect.stringMatching(/^3 .* interactive +unreadable +waiting +unreadable, in words$/),
    expect.stringMatching(/^2 /),
    expect.stringMatching(/^1 .* main +interactive +conflict +waiting +conflict, in words$/),
    '',
  ])
  const json = JSON.parse((await run('list', '--kind', 'conflict', '--json')).stdout)
  expect(json).toMatchObject({ items: [{ id: '1', kind: 'conflict' }], next_cursor: null })
  expect((await run('list', '--kind', 'other')).code).toBe(2)
  expect((await run('list', '--limit', '1')).stdout).toContain('There are more')

  const shown = await run('show', '2')
  expect(shown.code).toBe(0)
  expect(shown.stdout).toMatch(/^fix +The reason says what is wrong with the record/m)
  expect(shown.stdout).toContain('a bell  for the terminal')
  const content = JSON.parse((await run('show', '3', '--json')).stdout) as QuarantinedContent
  expect(content).toMatchObject({ cut_short: true, value_bytes: 70_000, kept_bytes: 65_536 })
  expect(await run('show', '99')).toMatchObject({ code: 1, stderr: expect.stringContaining('99') })

  const requeued = await run('requeue', '1')
  expect(requeued).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('A requeued record comes back to quarantine'),
  })
  const some = await run('requeue', '2', '3')
  expect(some).toMatchObject({
    code: 1,
    stdout: 'Record 2 will be appended to the event log again.\n',
    stderr: expect.stringMatching(/^3: .*cannot be requeued/),
  })
  const dismissed = await run('dismiss', '3', '--json')
  expect(dismissed.code).toBe(0)
  const { items } = JSON.parse(dismissed.stdout) as { items: readonly QuarantinedRecord[] }
  expect(items).toMatchObject([{ id: '3', state: 'dismissed' }])
  expect((await run('dismiss', '1')).code).toBe(1)
  expect((await run('dismiss')).code).toBe(2)
  expect((await run()).code).toBe(2)
})

test('requeue of a record that was requeued before reports that it did nothing', async () => {
  await hold('unreadable', 'x')
  await curfew.db.query(
    "update quarantined_records set state = 'requeued', decided_by = 'an operator', decided_at = now()",
  )
  expect(await run('requeue', '1')).toMatchObject({
    code: 0,
    stdout: 'Record 1 was requeued already: nothing was changed.\n',
  })
})
