import { randomUUID } from 'node:crypto'
import type { DeadLetter, Replay, ReplayPreview } from '@curfew/contract'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { pileUp } from '../integration/dead-letters-support.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: an SRE at a terminal, or a script, lists dead letters and their reasons, replays them after the relying party is
// repaired, and watches the replay.
// Method: the real command against all services, with a relying party that was really unavailable.

const processes = useProcesses()
let curfew: Curfew
let shop: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew()
  shop = await openRelyingParty(curfew, { clientId: 'shop', curfew: { retry_schedule_ms: [] } })
  await openRelyingParty(curfew, { clientId: 'wiki' }).then((wiki) => wiki.close())
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
})
beforeEach(() => curfew.db.query('truncate events, deliveries, attempts, replays, audit'))

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return processes.start({
    name: `curfew dlq ${args[0]}`,
    file: 'services/cli/src/main.ts',
    args: ['dlq', ...args],
    env: { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey, ...env },
  })
}

async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const command = start(args, env)
  const { code } = await command.exit()
  return { code, stdout: command.stdout, stderr: command.stderr }
}

/** Posts logouts that the shop refuses until they are dead letters. */
async function die(count: number): Promise<void> {
  shop.behave({ status: 503, body: '{"error":"maintenance"}' })
  await curfew.client.postLogoutEvents(
    Array.from({ length: count }, () => ({ iss: ISS, sub: randomUUID(), clients: ['shop'] })),
  )
  await eventually(async () => {
    const { items } = await curfew.client.listDeadLetters()
    expect(items).toHaveLength(count)
  })
  shop.behave(null)
}

test('a dead letter that was sent nothing says so', async () => {
  await curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({ curfew: { enabled: false } }))
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['shop'] })
  const id = await eventually(async () => {
    const { items } = await curfew.client.listDeadLetters()
    expect(items).toHaveLength(1)
    return items[0]?.id ?? ''
  })
  expect((await run(['show', id])).stdout).toMatch(/^given up on +\S+, before anything was sent$/m)
  await curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({ curfew: { enabled: true } }))
})

test('a dead letter that required a session lists its attempt as one that was not sent', async () => {
  await curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({
    backchannel_logout_session_required: true,
  }))
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['shop'] })
  const id = await eventually(async () => {
    const { items } = await curfew.client.listDeadLetters()
    expect(items).toMatchObject([{ reason: 'sid_required', attempt_count: 0 }])
    return items[0]?.id ?? ''
  })
  const { stdout } = await run(['show', id])
  expect(stdout).toMatch(/^given up on +\S+, before anything was sent$/m)
  expect(stdout).toMatch(/^1 +\S+Z +\d+ +undeliverable /m)
  await curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({
    backchannel_logout_session_required: null,
  }))
})

test('a dead letter after a redirect shows where it led', async () => {
  const location = 'https://idp.example/login?next=…'
  const attempt = { status: 302, errorClass: 'http_302', location }
  const [id = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1, reason: 'misconfigured', attempt })
  const { stdout } = await run(['show', id])
  expect(stdout).toContain(`it answered 302, a redirect to ${location}.`)
  expect(stdout).toMatch(/ 302 .*redirect to https:\/\/idp\.example\/login\?next=…$/m)
})

test('dead letters are listed, shown, replayed and acknowledged', async () => {
  await die(3)
  const bookkeeper = await curfew.startBookkeeper()
  const listed = await run(['list', '--client', 'shop'])
  expect(listed).toMatchObject({ code: 0, stderr: '' })
  expect(listed.stdout.split('\n')).toEqual([
    expect.stringMatching(/^ID +DIED \(UTC\) +ISSUER +CLIENT +CHANNEL +REASON +WHAT$/),
    ...[1, 2, 3].map(() =>
      expect.stringMatching(
        / main +shop +backchannel +attempts_exhausted +.*it answered 503 \(maintenance\)\.$/,
      ),
    ),
    '',
  ])
  const { items } = JSON.parse((await run(['list', '--json'])).stdout) as { items: readonly DeadLetter[] }
  const [first] = items
  const shown = await run(['show', first?.id ?? ''])
  expect(shown.code).toBe(0)
  expect(shown.stdout).toMatch(/^fix +Find the reason in its log/m)
  expect(shown.stdout).toMatch(/^3 +\S+Z +\d+ +unavailable +503 +http_503 +[0-9a-f-]{36} +maintenance$/m)

  const before = shop.received.length
  const dry = await run(['replay', '--issuer', 'main', '--dry-run'])
  expect(dry.code).toBe(0)
  expect(dry.stdout).toMatch(/^main +shop +attempts_exhausted +3 +0 /m)
  expect(dry.stdout).toContain('A replay includes 3.')
  expect(shop.received).toHaveLength(before)

  const replayed = await run(['replay', '--client', 'shop', '--yes'])
  expect(replayed.code).toBe(0)
  expect(replayed.stdout).toContain('A replay includes 3.')
  expect(replayed.stdout).toMatch(/Replay \S+ is done: 3 of 3 replayed\.\n +3 acknowledged\n$/)
  expect(replayed.stderr).toMatch(/\[#{30}\] 100 % {2}3 of 3 replayed/)
  // Each attempt has a new token, and the relying party accepts it.
  const tokens = shop.received.map(({ claims }) => claims.jti)
  expect(new Set(tokens).size).toBe(tokens.length)
  expect(shop.received.slice(before).map(({ verification }) => verification.ok)).toEqual([true, true, true])
  expect((await run(['list'])).stdout).toBe('No dead letters.\n')
  expect(await run(['replay', '--yes'])).toMatchObject({ code: 0, stdout: 'No dead letters match.\n' })
  await bookkeeper.stop()
})

test('with --json the standard output has only the JSON', async () => {
  await pileUp(curfew.db, { clientId: 'wiki', count: 2, sessionEndsInS: -1 })
  const [, third] = [...(await pileUp(curfew.db, { clientId: 'wiki', count: 2 }))]
  const dry = await run(['replay', '--dry-run', '--json', '--include-lapsed'])
  expect(JSON.parse(dry.stdout) as ReplayPreview).toMatchObject({ dry_run: true, total: 4, lapsed: 2 })
  const bookkeeper = await curfew.startBookkeeper()
  const replayed = await run(['replay', '--json', '--yes', '--id', third ?? ''])
  expect(JSON.parse(replayed.stdout) as Replay).toMatchObject({ state: 'done', total: 1, done: 1 })
  await bookkeeper.stop()
})

test('an id that names no dead letter is reported with exit status 1, and the others are replayed', async () => {
  const [known] = await pileUp(curfew.db, { clientId: 'wiki', count: 1 })
  const ids = ['--id', known ?? '', '--id', randomUUID()]
  expect(await run(['replay', '--yes', '--id', randomUUID()])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Not found: 1 of the 1 ids.'),
  })
  expect(await run(['replay', '--dry-run', ...ids])).toMatchObject({ code: 1 })
  const bookkeeper = await curfew.startBookkeeper()
  const replayed = await run(['replay', '--json', '--yes', ...ids])
  expect(replayed).toMatchObject({ code: 1, stderr: expect.stringContaining('Not found: 1 of the 2 ids.') })
  expect(JSON.parse(replayed.stdout) as Replay).toMatchObject({ state: 'done', total: 1, done: 1 })
  await bookkeeper.stop()
})

test('a failed replay is reported with its reason, and exit status 1', async () => {
  const [bad] = await pileUp(curfew.db, { clientId: 'wiki', count: 2 })
  await curfew.db.query(
    `alter table deliveries add constraint refuses check (id <> '${bad}' or state <> 'pending') not valid`,
  )
  const bookkeeper = await curfew.startBookkeeper()
  try {
    const replayed = await run(['replay', '--yes'])
    expect(replayed.code).toBe(1)
    expect(replayed.stdout).toMatch(
      /is failed: 1 of 2 replayed\.\nIt failed: the ledger refused to put back 1 /,
    )
  } finally {
    await bookkeeper.stop()
    await curfew.db.query('alter table deliveries drop constraint refuses')
  }
})

describe('a running replay', () => {
  test('continues after Ctrl-C, and can be followed and cancelled', async () => {
    await pileUp(curfew.db, { clientId: 'wiki', count: 5 })
    const command = start(['replay', '--yes'])
    await command.says(/0 of 5 replayed/)
    command.signal('SIGINT')
    expect(await command.exit()).toMatchObject({ code: 1 })
    const [, id = ''] = /curfew dlq replay --follow (\S+)/.exec(command.stderr) ?? []
    expect(await curfew.client.getReplay(id)).toMatchObject({ state: 'running' })
    const following = start(['replay', '--follow', id])
    await following.says(/0 of 5 replayed/)
    const cancelled = await run(['replay', '--cancel', id])
    expect(cancelled).toMatchObject({ code: 0, stdout: expect.stringContaining('is cancelled: 0 of 5') })
    expect(await following.exit()).toMatchObject({ code: 1 })
    expect(following.stdout).toContain('is cancelled')
  })
})

describe('exit statuses and error texts', () => {
  test.each([
    { args: [], says: 'Give a command: list, show, replay.' },
    { args: ['lst'], says: "Unknown command 'lst'" },
    { args: ['show'], says: "Missing required argument 'ID'" },
    { args: ['list', '--lmit', '1'], says: "Unknown option '--lmit'" },
    { args: ['list', '--limit', '0'], says: '--limit must be' },
    { args: ['list', '--url', 'nowhere'], says: 'nowhere is not an http(s) URL' },
    { args: ['list'], env: { CURFEW_KEY: '' }, says: 'Give an API key' },
    { args: ['replay'], says: 'give --yes' },
    { args: ['list', '--reason', 'lost'], says: 'Curfew answered 400: /reason must be' },
    { args: ['replay', '--yes', '--from', 'noon'], says: '/filter/from' },
    { args: ['list'], env: { CURFEW_KEY: 'cfw_two\nlines' }, says: 'no API key has' },
  ])('a usage fault exits with 2: $args', async ({ args, env = {}, says }) => {
    const { code, stdout, stderr } = await run(args, env)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(says)
    expect(stderr).not.toContain('cfw_')
  })

  test.each([
    { args: ['show', randomUUID()], says: 'Curfew answered 404' },
    { args: ['replay', '--follow', randomUUID()], says: 'Curfew answered 404' },
    { args: ['list'], env: { CURFEW_KEY: 'cfw_unknown' }, says: 'Curfew answered 401' },
    { args: ['list', '--url', 'http://127.0.0.1:1'], says: 'Curfew does not answer: ' },
  ])('a refusal exits with 1: $args', async ({ args, env = {}, says }) => {
    const { code, stdout, stderr } = await run(args, env)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain(says)
    expect(stderr).not.toContain('cfw_')
  })
})
