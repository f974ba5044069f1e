import { randomBytes } from 'node:crypto'
import { createAuditJobs } from '@curfew/bookkeeper'
import type { Audit } from '@curfew/contract'
import { createGuardedClient } from '@curfew/outbound'
import { createLog, createMetrics } from '@curfew/runtime'
import { createAuditSecretSealer, createClientKeySealer } from '@curfew/tokens'
import { expect, test } from 'vitest'
import { openAuditedRp } from '../support/audited-rp.ts'
import { type Curfew, eventually, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: the gauges of logout audits show the last conclusive audit of a relying party, and how long ago it was.
// Method: real audits by a bookkeeper; the gauges of a second one, counted when the test asks.

/** The gauges of the relying party `shop`, without their prefix. */
function createReading({ db, eventLog }: Curfew): () => Promise<Readonly<Record<string, number>>> {
  const metrics = createMetrics()
  const masterKey = randomBytes(32)
  const { jobs } = createAuditJobs({
    ...{ db, eventLog, metrics },
    client: createGuardedClient({ allowedNetworks: [], allowedPorts: null }),
    auditSecrets: createAuditSecretSealer(masterKey),
    clientKeys: createClientKeySealer(masterKey),
    log: createLog({ service: 'test', level: 'error' }),
    stopping: new AbortController().signal,
  })
  const counting = jobs.find(({ name }) => name === 'count of audits')
  return async () => {
    await counting?.round()
    const { body } = await metrics.expose()
    const found = body.matchAll(/^curfew_audit_(\w+)\{issuer="main",client_id="shop"\} (\S+)$/gm)
    return Object.fromEntries([...found].map(([, name, value]) => [name, Number(value)]))
  }
}

test('the gauges show a passed and a failed audit, and an inconclusive one changes none of them', async () => {
  await using curfew = await openCurfew({ bookkeepers: 1 })
  await using rp = await openAuditedRp(curfew, 'shop')
  const read = createReading(curfew)
  const audited = async (): Promise<Audit> => {
    const [audit] = (await curfew.client.runAudits({ issuer: ISSUER, clients: ['shop'] })).audits
    return eventually(async () => {
      const found = await curfew.client.getAudit(audit?.id ?? '')
      expect(found.state).toBe('ended')
      return found
    })
  }
  await curfew.client.putAuditSetup(ISSUER, 'shop', rp.setup({ timeout_s: 1 }))
  expect(await read()).toEqual({})
  await curfew.client.putAuditSetup(ISSUER, 'shop', rp.setup({ timeout_s: 1, every_s: 86_400 }))
  // The first audit of a schedule would come within a minute.
  await curfew.db.query("update logout_audit_setups set next_due_at = now() + interval '1 day'")

  const { result, propagation_ms } = await audited()
  expect(result).toBe('passed')
  const passed = await read()
  const propagation = (propagation_ms ?? 0) / 1_000
  expect(propagation).toBeGreaterThan(0)
  expect(passed).toEqual({
    passed: 1,
    schedule_seconds: 86_400,
    propagation_seconds: propagation,
    age_seconds: expect.any(Number),
  })
  expect(passed.age_seconds).toBeLessThan(30)

  const anHourAgo = () =>
    curfew.db.query("update logout_audit_setups set last_concluded_at = now() - interval '1 hour'")
  await anHourAgo()
  expect((await read()).age_seconds).toBeGreaterThanOrEqual(3_600)
  rp.behave({ ends: false })
  expect((await audited()).result).toBe('failed')
  const failed = await read()
  expect(failed).toMatchObject({ passed: 0, propagation_seconds: propagation })
  expect(failed.age_seconds).toBeLessThan(30)

  await anHourAgo()
  rp.behave({ hook: { status: 500, body: 'broken' } })
  expect((await audited()).result).toBe('inconclusive')
  const inconclusive = await read()
  expect(inconclusive).toMatchObject({ passed: 0, propagation_seconds: propagation })
  expect(inconclusive.age_seconds).toBeGreaterThanOrEqual(3_600)
})
