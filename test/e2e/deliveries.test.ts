import { randomUUID } from 'node:crypto'
import type { DeliveryWithAttempts } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: an operator sees at the terminal which deliveries a relying party got, how each attempt went, and the remedy of a failure.
// Method: the real command against all services, with one healthy relying party and one that refuses.

const processes = useProcesses()
let curfew: Curfew
let shop: RelyingParty
let wiki: RelyingParty
const event = randomUUID()
beforeAll(async () => {
  curfew = await openCurfew()
  shop = await openRelyingParty(curfew, { clientId: 'shop', curfew: { retry_schedule_ms: [] } })
  wiki = await openRelyingParty(curfew, { clientId: 'wiki' })
  shop.behave({ status: 503, body: '{"error":"maintenance","error_description":"back at noon"}' })
  await curfew.client.postLogoutEvent({ id: event, iss: ISS, sub: 'alice' })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'bob', clients: ['wiki'] })
  await curfew.client.getLogoutEvent(event, { wait: 10 })
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
  await wiki.close()
})

function run(args: readonly string[], key = curfew.adminKey) {
  return runCurfew(processes, ['deliveries', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: key })
}

async function idOf(client: string, of: string = event): Promise<string> {
  const { items } = await curfew.client.listDeliveries({ client_id: client, event_id: of })
  return items[0]?.id ?? ''
}

test('list prints the deliveries that its options select', async () => {
  const { code, stdout } = await run(['list', '--event', event])
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^ID +PLANNED \(UTC\) +ISSUER +CLIENT +CHANNEL +ENDPOINT +STATE +ATTEMPTS +MS +EVENT$/m,
  )
  expect(stdout).toMatch(
    new RegExp(`${ISSUER} +shop .* dead_lettered: attempts_exhausted +3 .*${event}$`, 'm'),
  )
  expect(stdout).toMatch(new RegExp(`${ISSUER} +wiki .* acknowledged +1 +\\d+ +${event}$`, 'm'))

  const dead = await run(['list', '--state', 'dead_lettered', '--issuer', ISSUER, '--json'])
  expect(JSON.parse(dead.stdout)).toMatchObject({ items: [{ client_id: 'shop' }], next_cursor: null })
  const ofWiki = await run(['list', '--client', 'wiki', '--channel', 'backchannel', '--limit', '1'])
  expect(ofWiki.stdout.trim().split('\n')).toEqual([
    expect.any(String),
    expect.stringContaining('wiki'),
    'There are more. Raise --limit, or narrow the filter.',
  ])
  const none = await run(['list', '--since', '2999-01-01T00:00:00Z', '--until', '2999-01-02T00:00:00Z'])
  expect(none).toMatchObject({ code: 0, stdout: 'No deliveries.\n' })
})

test('show prints the attempts with the words of the relying party, and the remedy of a dead letter', async () => {
  const id = await idOf('shop')
  const { code, stdout } = await run(['show', id])
  expect(code).toBe(0)
  expect(stdout).toMatch(new RegExp(`^delivery +${id}$`, 'm'))
  expect(stdout).toMatch(/^state +dead_lettered: attempts_exhausted$/m)
  expect(stdout).toMatch(/^fix +\S+/m)
  expect(stdout).toMatch(/^# {2}STARTED +MS {2}OUTCOME +STATUS {2}FAULT +JTI +ANSWER$/m)
  expect(stdout).toMatch(
    /^1 {2}\S+Z +\d+ {2}unavailable +503 {2}http_503 +[0-9a-f-]{36} +maintenance: back at noon$/m,
  )
  expect(stdout).toMatch(/^3 {2}\S+Z +\d+ {2}unavailable +503 /m)

  const json = JSON.parse((await run(['show', id, '--json'])).stdout) as DeliveryWithAttempts
  expect(json).toMatchObject({ id, what: expect.any(String), fix: expect.any(String) })
  expect(json.attempts).toHaveLength(3)
})

test('show prints where a redirect led, and the note of an acknowledgement', async () => {
  const rp = await openRelyingParty(curfew, {
    clientId: 'crm',
    metadata: { curfew: { already_ended_errors: ['unknown_session'] } },
  })
  const shown = async (sub: string) => {
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub, clients: ['crm'] })
    return eventually(async () => {
      const { stdout } = await run(['show', await idOf('crm', id)])
      expect(stdout).toMatch(/^1 /m)
      return stdout
    })
  }
  try {
    rp.behave({ status: 302, headers: { location: '/login?next=secret' } })
    expect(await shown('bob')).toMatch(/^1 .* 302 {2}http_302 +\S+ +redirect to \S+\/login\?next=…$/m)
    rp.behave({ status: 400, body: '{"error":"unknown_session"}' })
    expect(await shown('carol')).toMatch(/^1 .* acknowledged +400 +\S+ +already_ended/m)
  } finally {
    await rp.close()
  }
})

test('show of a delivery that is repeated prints how to correct the failure', async () => {
  const rp = await openRelyingParty(curfew, { clientId: 'mail', curfew: { retry_schedule_ms: [3_600_000] } })
  try {
    rp.behave({ status: 503 })
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'dave', clients: ['mail'] })
    const [pending] = await eventually(async () => {
      const { items } = await curfew.client.listDeliveries({ client_id: 'mail', state: 'pending' })
      expect(items[0]?.last_error).toMatchObject({ status: 503 })
      return items
    })
    const { stdout } = await run(['show', pending?.id ?? ''])
    expect(stdout).toMatch(/^state +pending$/m)
    expect(stdout).toMatch(/^fix +Find the reason in its log, .* Curfew repeats the delivery by itself\.$/m)
    expect(stdout).not.toMatch(/^what |replay/m)
  } finally {
    await rp.close()
  }
})

test('show of an acknowledged delivery has no remedy', async () => {
  const { code, stdout } = await run(['show', await idOf('wiki')])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^level +done$/m)
  expect(stdout).toMatch(/^settled +\S+Z, \d+ ms after acceptance$/m)
  expect(stdout).not.toMatch(/^(?:fix|replayed) /m)
})

test('show works for a key that may not read dead letters', async () => {
  const { key } = await curfew.client.createApiKey({ name: 'auditor', scopes: ['ledger:read'] })
  const { code, stdout } = await run(['show', await idOf('shop')], key)
  expect(code).toBe(0)
  expect(stdout).toContain('maintenance: back at noon')
  expect(stdout).not.toMatch(/^fix /m)
})

test('a wrong filter is wrong usage, and an unknown id is a refusal', async () => {
  expect(await run(['list', '--state', 'lost'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/\/state .*\nSee curfew deliveries list --help\n$/),
  })
  expect(await run(['show', randomUUID()])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('No delivery has the id'),
  })
})
