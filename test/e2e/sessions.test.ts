import { expect, test } from 'vitest'
import { registerQuietly } from '../integration/dead-letters-support.ts'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: support staff at a terminal, or a script, see the sessions of a subject and the orphaned sessions.
// Method: the real command against all services.

const processes = useProcesses()
const EVENT = '01938c2e-0000-7000-8000-000000000001'

async function open() {
  const curfew = await openCurfew()
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['sessions', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  return { curfew, run, [Symbol.asyncDispose]: () => curfew.stop() }
}

test('the sessions of a subject and the orphaned sessions are listed', async () => {
  await using opened = await open()
  const { curfew, run } = opened
  const expires_at = new Date(Date.now() + 3_600_000).toISOString()
  const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'mail', expires_at }
  await curfew.client.postSessions([
    { ...session, device: 'phone', email: 'alice@example.com' },
    { ...session, client_id: 'wiki', email: 'alice@example.com' },
    { ...session, sid: 's2' },
  ])
  await eventually(async () => {
    expect((await curfew.client.listSessions({ iss: ISS, sub: 'alice' })).items).toHaveLength(3)
  })
  await curfew.db.query(
    `with event as (
       insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at,
         planned_at, plan_basis)
       values (gen_random_uuid(), $1, '', $2, 'alice', 'subject', false, true, now(), 'bulk', now(), now(), now(), 'registered') returning id)
     update sessions set logout_event_id = event.id, orphaned_at = now() from event where client_id = 'wiki'`,
    [EVENT, ISS],
  )

  const [listed, few, json, orphans] = await Promise.all([
    run('list', '--iss', ISS, '--sub', 'alice'),
    run('list', '--iss', ISS, '--sub', 'alice', '--limit', '2'),
    run('list', '--iss', ISS, '--sid', 's1', '--json'),
    run('orphans', '--issuer', 'main', '--client', 'wiki'),
  ])
  expect(listed).toMatchObject({ code: 0, stderr: '' })
  expect(listed.stdout.split('\n')).toEqual([
    expect.stringMatching(
      /^CLIENT +SUBJECT +EMAIL +SESSION +DEVICE +STARTED \(UTC\) +EXPIRES \(UTC\) +LOGOUT$/,
    ),
    expect.stringMatching(
      /^mail +alice +alice@example\.com +s1 +phone +\d{4}-\d\d-\d\d \d\d:\d\d +\d{4}-\d\d-\d\d \d\d:\d\d$/,
    ),
    expect.stringMatching(/^wiki +alice +alice@example\.com +s1 .* failed or lapsed at \S+ \S+: 01938c2e-/),
    expect.stringMatching(/^mail +alice +s2 /),
    '',
  ])
  expect(few.stdout.split('\n').slice(2)).toEqual([
    expect.stringMatching(/^wiki/),
    'There are more. Raise --limit, or narrow the filter.',
    '',
  ])
  expect(JSON.parse(json.stdout)).toMatchObject({ items: [{ client_id: 'mail' }, { client_id: 'wiki' }] })
  expect(orphans.stdout.split('\n')).toEqual([
    expect.stringMatching(/^SINCE \(UTC\) +ISSUER +CLIENT +SUBJECT +EMAIL +SESSION +WHY +EVENT$/),
    expect.stringMatching(
      /^\d{4}-\d\d-\d\d \d\d:\d\d +main +wiki +alice +alice@example\.com +s1 +never_planned +01938c2e-/,
    ),
    '',
  ])
})

test('the overlong sessions of an issuer are listed', async () => {
  await using opened = await open()
  const { curfew, run } = opened
  await registerQuietly(curfew.call, ['mail'])
  const started_at = '2026-01-01T00:00:00Z'
  await curfew.client.postSessions([
    { iss: ISS, sub: 'alice', sid: 's1', client_id: 'mail', started_at, expires_at: null },
  ])
  // As the bookkeeper does once a hundred sessions of the client have ended. It leaves a client alone that was just counted.
  await curfew.db.query(
    `insert into session_lifetimes (relying_party_id, lifetimes, overlong_after_ms, overlong, counted_at)
     select id, array_fill(0::real, '{80}'), 3600000, 1, now() + interval '1 day' from relying_parties where client_id = 'mail'`,
  )
  await eventually(async () => {
    expect((await curfew.client.listSessions({ iss: ISS, overlong: true })).items).toHaveLength(1)
  })
  const [listed, none] = await Promise.all([
    run('list', '--iss', ISS, '--overlong'),
    run('list', '--iss', ISS, '--overlong', '--client', 'wiki'),
  ])
  expect(listed).toMatchObject({ code: 0, stderr: '' })
  expect(listed.stdout.split('\n')).toEqual([
    expect.stringMatching(/ EXPIRES \(UTC\) +OVERLONG SINCE \(UTC\) +LOGOUT$/),
    expect.stringMatching(/^mail +alice +s1 +2026-01-01 00:00 +no end +2026-01-01 01:00$/),
    '',
  ])
  expect(none).toEqual({ code: 0, stdout: 'No overlong sessions.\n', stderr: '' })
})

test('an empty list and wrong arguments are reported', async () => {
  await using opened = await open()
  const { run } = opened
  const [none, orphans, refused, ...wrong] = await Promise.all([
    run('list', '--iss', ISS, '--sub', 'alice'),
    run('orphans', '--json'),
    run('list', '--iss', 'nowhere', '--sub', 'alice'),
    run('list', '--iss', ISS),
    run('list', '--iss', ISS, '--sub', 'alice', '--sid', 's1'),
    run('list', '--iss', ISS, '--sub', 'alice', '--overlong'),
    run('orphans', '--limit', '0'),
  ])
  expect(none).toEqual({ code: 0, stdout: 'No sessions.\n', stderr: '' })
  expect(orphans).toEqual({ code: 0, stdout: '{"items":[],"next_cursor":null}\n', stderr: '' })
  expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('/iss') })
  expect(wrong.map(({ code }) => code)).toEqual([2, 2, 2, 2])
})
