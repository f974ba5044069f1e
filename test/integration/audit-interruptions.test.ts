import type { Audit } from '@curfew/contract'
import { expect, test } from 'vitest'
import { openAuditedRp } from '../support/audited-rp.ts'
import { type Curfew, eventually, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: an audit that a crash, an outage or a bug cuts off has no false verdict, and says what happened.
// Method: a bookkeeper that is killed, stopped or cut off from PostgreSQL while a real relying party holds or refuses a request.

const ended = ({ client }: Curfew, id: string): Promise<Audit> =>
  eventually(async () => {
    const audit = await client.getAudit(id)
    expect(audit.state).toBe('ended')
    return audit
  })

test('a bookkeeper that is killed leaves the audit inconclusive, and no other bookkeeper repeats its steps', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await using shop = await openAuditedRp(own, 'shop')
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup({ timeout_s: 30 }))
  shop.behave({ ends: false })
  const doomed = await own.startBookkeeper()
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  const id = audit?.id ?? ''
  await eventually(() => expect(shop.logouts).toBe(1))
  await doomed.kill()
  await own.startBookkeeper()
  expect((await own.client.getAudit(id)).state).toBe('running')
  await own.db.query("update logout_audits set leased_until = now() - interval '1 second'")
  const end = await ended(own, id)
  expect(end).toMatchObject({ result: 'inconclusive', reason: 'interrupted', propagation_ms: null })
  expect(end.event_id).not.toBeNull()
  expect([shop.hooked.length, shop.logouts]).toEqual([1, 1])
})

test('a verdict that is reached while PostgreSQL is unavailable is kept', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await using shop = await openAuditedRp(own, 'shop')
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup({ timeout_s: 1 }))
  shop.behave({ ends: false })
  const bookkeeper = await own.startBookkeeper()
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  await eventually(() => expect(shop.logouts).toBe(1))
  await bookkeeper.gate.shut()
  await eventually(() => expect(own.lines.join('')).toContain('"audit.waits-for-ledger"'))
  await bookkeeper.gate.open()
  const end = await ended(own, audit?.id ?? '')
  expect(end).toMatchObject({ result: 'failed', reason: 'session_survived', delivery: { level: 'done' } })
})

test('refreshes go on when the deliveries cannot be read, and the log says so', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await using shop = await openAuditedRp(own, 'shop')
  const refresh = { url: `${shop.url}/refresh`, method: 'POST' } as const
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup({ refresh, timeout_s: 30 }))
  shop.behave({ ends: false })
  const release = shop.hold('/backchannel-logout')
  const bookkeeper = await own.startBookkeeper()
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  await eventually(() => expect(shop.received('/refresh')).toBeGreaterThan(0))
  await bookkeeper.gate.shut()
  const line = await eventually(() => {
    const found = own.lines.find((each) => each.includes('"audit.deliveries-unread"'))
    expect(found).toBeDefined()
    return JSON.parse(found ?? '{}')
  })
  expect(line).toMatchObject({ audit_id: audit?.id, err: { type: 'LedgerUnavailableError' } })
  const before = shop.received('/refresh')
  await eventually(() => expect(shop.received('/refresh')).toBeGreaterThan(before + 2))
  await bookkeeper.gate.open()
  release()
  await bookkeeper.stop()
})

test('an error of Curfew in a run is the reason of the audit, and is logged', async () => {
  await using own = await openCurfew({ bookkeepers: 1 })
  await using shop = await openAuditedRp(own, 'shop')
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup())
  await own.db.query('alter table logout_audits add constraint refuses check (event_id is null)')
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  const end = await ended(own, audit?.id ?? '')
  expect(end).toMatchObject({ result: 'inconclusive', reason: 'run_failed', event_id: null })
  expect(end.what).toMatch(/^The audit met an error in Curfew\. The error is .* with the code 23514\.$/)
  const line = own.lines.find((each) => each.includes('"audit.run-failed"'))
  expect(JSON.parse(line ?? '{}')).toMatchObject({
    audit_id: audit?.id,
    issuer: ISSUER,
    err: { code: '23514' },
  })
  expect(shop.logouts).toBe(0)
})

test('a bookkeeper that stops after the login still ends the session', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await using shop = await openAuditedRp(own, 'shop')
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup())
  const release = shop.hold('/me')
  const bookkeeper = await own.startBookkeeper()
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  await eventually(() => expect(shop.sessions.size).toBe(1))
  const stopped = bookkeeper.stop()
  release()
  await stopped
  await eventually(() => expect(shop.sessions.size).toBe(0))
  expect(await own.client.getAudit(audit?.id ?? '')).toMatchObject({ state: 'ended', reason: 'interrupted' })
})

test('a bookkeeper that stops ends its audits at once, and a schedule repeats them soon', async () => {
  await using own = await openCurfew({ bookkeepers: 0 })
  await using shop = await openAuditedRp(own, 'shop')
  await own.client.putAuditSetup(ISSUER, 'shop', shop.setup({ timeout_s: 600, every_s: 86_400 }))
  shop.behave({ ends: false })
  const bookkeeper = await own.startBookkeeper()
  const [audit] = (await own.client.runAudits({ issuer: ISSUER })).audits
  await eventually(() => expect(shop.logouts).toBe(1))
  await own.db.query("update logout_audit_setups set next_due_at = now() + interval '1 day'")
  await bookkeeper.stop()
  expect(await own.client.getAudit(audit?.id ?? '')).toMatchObject({ state: 'ended', reason: 'interrupted' })
  const { next_due_at } = await own.client.getAuditSetup(ISSUER, 'shop')
  expect(Date.parse(next_due_at ?? '') - Date.now()).toBeLessThan(61_000)
})
