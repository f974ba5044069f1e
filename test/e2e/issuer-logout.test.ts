import { randomUUID } from 'node:crypto'
import type { IssuerLogout, IssuerLogoutPreview } from '@curfew/contract'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, ISS, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions } from '../support/session-rows.ts'

// Goal: in an incident an SRE at a terminal, or a script, starts an issuer logout: previews it, confirms it, watches it, and can
// stop it.
// Method: the real command against all services, with a real relying party.

const processes = useProcesses()
let curfew: Curfew
let shop: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew()
  await curfew.client.putIssuer('main', { iss: ISS, session_index: 'complete' })
  await curfew.client.putIssuer('silent', { iss: 'https://silent.example' })
  shop = await openRelyingParty(curfew, { clientId: 'shop' })
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
})
beforeEach(async () => {
  await curfew.db.query('truncate events, deliveries, attempts, issuer_logouts, audit, sessions, session_ids')
  await insertSessions(
    curfew.db,
    ISS,
    ['alice', 'alice', 'bob', 'carol'].map((sub, n) => ({ sub, sid: `s${n}`, clientId: 'shop' })),
  )
})

const environment = (more: Readonly<Record<string, string>>) => ({
  ...{ CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey },
  ...more,
})
const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCurfew(processes, ['issuer-logout', ...args], environment(env))
const start = (args: readonly string[]) =>
  processes.start({
    name: 'curfew issuer-logout',
    file: 'services/cli/src/main.ts',
    args: ['issuer-logout', ...args],
    env: environment({}),
  })

test('previews the sessions, then logs out the subjects and shows progress', async () => {
  const dry = await run(['--issuer', 'main', '--dry-run'])
  expect(dry).toMatchObject({ code: 0, stderr: '' })
  expect(dry.stdout).toBe(
    `CLIENT  SESSIONS  SUBJECTS\nshop           4         3\n${ISS} has 3 subjects with 4 sessions to end.\n`,
  )
  expect(shop.received).toEqual([])
  const bookkeeper = await curfew.startBookkeeper()
  const done = await run(['--iss', ISS, '--reason', 'compromise', '--yes'])
  await bookkeeper.stop()
  expect(done.code).toBe(0)
  expect(done.stdout).toContain(`${ISS} has 3 subjects with 4 sessions to end.`)
  expect(done.stdout).toMatch(/ is done: 3 of 3 subjects\.\n +4 acknowledged\n$/)
  expect(done.stderr).toMatch(/\[#{30}\] 100 % {2}3 of 3 subjects: /)
  expect(shop.received.map(({ claims }) => claims.sid).toSorted()).toEqual(['s0', 's1', 's2', 's3'])
  const [, id = ''] = /^Issuer logout (\S+) of /m.exec(done.stdout) ?? []
  const shown = await runCurfew(processes, ['events', 'show', id], environment({}))
  expect(shown).toMatchObject({ code: 0, stderr: '' })
  expect(shown.stdout).toMatch(
    /^in words +All subjects of the issuer are being logged out \(3 of 3 subjects\)\. /m,
  )
})

test('with --json the standard output has only the JSON', async () => {
  const dry = await run(['--issuer', 'main', '--dry-run', '--json', '--client', 'shop'])
  expect(JSON.parse(dry.stdout) as IssuerLogoutPreview).toMatchObject({ subjects: 3, sessions: 4 })
  const bookkeeper = await curfew.startBookkeeper()
  const done = await run(['--issuer', 'main', '--yes', '--json'])
  await bookkeeper.stop()
  expect(JSON.parse(done.stdout) as IssuerLogout).toMatchObject({ state: 'done', total: 3, done: 3 })
})

test('continues after Ctrl-C, and can be followed and cancelled', async () => {
  const command = start(['--issuer', 'main', '--yes'])
  await command.says(/0 of 3 subjects|not planned yet/)
  command.signal('SIGINT')
  expect(await command.exit()).toMatchObject({ code: 1 })
  const [, id = ''] = /curfew issuer-logout --follow (\S+)/.exec(command.stderr) ?? []
  const following = start(['--follow', id])
  await following.says(/0 of 0 subjects/)
  const cancelled = await run(['--cancel', id])
  expect(cancelled).toMatchObject({ code: 0, stdout: expect.stringContaining('is cancelled: 0 subjects') })
  expect(await following.exit()).toMatchObject({ code: 1 })
  expect(following.stdout).toContain('is cancelled')
})

test('reports an issuer without a session index, and does nothing', async () => {
  const { code, stdout } = await run(['--issuer', 'silent', '--yes'])
  expect([code, stdout]).toEqual([
    1,
    expect.stringContaining('the session index says nothing about this issuer'),
  ])
  expect((await curfew.client.listIssuerLogouts()).items).toEqual([])
})

describe('exit statuses and error texts', () => {
  test.each([
    { args: ['--yes'], says: 'There are several issuers. Give --issuer NAME: main, silent' },
    { args: ['--issuer', 'main', '--iss', ISS], says: 'Give --issuer NAME, or --iss ISSUER' },
    { args: ['--issuer', 'main'], says: 'give --yes' },
    { args: ['--issuer', 'main', '--yes', '--reason', 'none'], says: 'Curfew answered 400: /reason must be' },
  ])('a usage fault exits with 2: $args', async ({ args, says }) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(says)
  })

  test.each([
    { args: ['--issuer', 'nowhere', '--dry-run'], says: 'Curfew answered 404' },
    { args: ['--follow', randomUUID()], says: 'Curfew answered 404' },
    { args: ['--cancel', randomUUID()], says: 'Curfew answered 404' },
  ])('a refusal exits with 1: $args', async ({ args, says }) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain(says)
  })
})
