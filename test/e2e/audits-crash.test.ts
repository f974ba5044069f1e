import type { Client } from '@curfew/client'
import type { Audit } from '@curfew/contract'
import { expect, test, vi } from 'vitest'
import { openAuditedRp } from '../support/audited-rp.ts'
import { eventually, ISS, ISSUER } from '../support/curfew.ts'
import { type Standalone, startStandalone, useProcesses } from '../support/processes.ts'

// Goal: a crash in any phase of a logout audit ends it without a false verdict, and the next audit runs.
// Method: `curfew up` in its own process, killed with SIGKILL while four audits are in four phases; four relying parties.

const processes = useProcesses()
const ENV = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }
/** The lease of a killed bookkeeper, and a slow start. */
const LEASE_MS = 60_000

const ended = (client: Client, id: string): Promise<Audit> =>
  vi.waitFor(
    async () => {
      const audit = await client.getAudit(id)
      expect(audit.state).toBe('ended')
      return audit
    },
    { timeout: LEASE_MS, interval: 200 },
  )

test('audits that a SIGKILL cuts off in any phase are inconclusive, and their posted logouts end the sessions', async () => {
  const dataFolder = await processes.dataFolder()
  const start = (adminKey: string | null = null): Promise<Standalone> =>
    startStandalone(processes, { dataFolder, adminKey, env: ENV, timeoutMs: 2 * LEASE_MS })
  const first = await start()
  await first.client.putIssuer(ISSUER, { iss: ISS })
  const rps = await Promise.all(
    ['in-login', 'after-login', 'posted', 'checking'].map((clientId) => openAuditedRp(first, clientId)),
  )
  await using closing = new AsyncDisposableStack()
  for (const rp of rps) closing.use(rp)
  const [inLogin, afterLogin, posted, checking] = rps
  if (!inLogin || !afterLogin || !posted || !checking) throw new Error('four relying parties are open')
  for (const rp of rps) await first.client.putAuditSetup(ISSUER, rp.clientId, rp.setup({ timeout_s: 600 }))
  const releases = [inLogin.hold('/hook'), afterLogin.hold('/me'), posted.hold('/backchannel-logout')]
  checking.behave({ ends: false })
  const { audits } = await first.client.runAudits({ issuer: ISSUER })
  await eventually(async () => {
    expect([inLogin.received('/hook'), afterLogin.received('/me')]).toEqual([1, 1])
    expect(posted.received('/backchannel-logout')).toBe(1)
    expect(checking.logouts).toBe(1)
  })
  const checks = checking.received('/me')
  await eventually(() => expect(checking.received('/me')).toBeGreaterThan(checks))
  await first.process.kill()
  // The relying party ends the session at the logout of the next process.
  checking.behave({})
  for (const release of releases) release()

  const { client } = await start(first.adminKey)
  const results = await Promise.all(audits.map(({ id }) => ended(client, id)))
  expect(results.map(({ result, reason }) => [result, reason])).toEqual(
    rps.map(() => ['inconclusive', 'interrupted']),
  )
  const eventOf = (clientId: string) => results.find(({ client_id }) => client_id === clientId)?.event_id
  expect([eventOf('in-login'), eventOf('after-login')]).toEqual([null, null])
  for (const clientId of ['posted', 'checking'])
    expect(await client.getLogoutEvent(eventOf(clientId) ?? '', { issuer: ISSUER, wait: 20 })).toMatchObject({
      status: 'settled',
    })
  expect(posted.sessions.size).toBe(0)

  const again = await client.runAudits({ issuer: ISSUER })
  const next = await Promise.all(again.audits.map(({ id }) => ended(client, id)))
  expect(next.map(({ result }) => result)).toEqual(rps.map(() => 'passed'))
}, 400_000)
