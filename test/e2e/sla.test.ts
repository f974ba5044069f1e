import type { Sla } from '@curfew/contract'
import { expect, test } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an SRE at a terminal, or a script, sees within moments whether the SLA is kept.
// Method: the real command, and real logouts through all services, with one disabled relying party.

const processes = useProcesses()

test('a delivery in time keeps the SLA, and a dead-lettered one spends the error budget', async () => {
  await using curfew = await openCurfew({ workers: 0, bookkeepers: 1 })
  const mail = await openRelyingParty(curfew, { clientId: 'mail' })
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['sla', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  await using closing = new AsyncDisposableStack()
  closing.defer(() => mail.close())

  const idle = await run()
  expect(idle).toMatchObject({ code: 0, stderr: '' })
  expect(idle.stdout).toMatch(
    /^not counted yet no delivery worker is alive: accepted logouts wait in the event log$/m,
  )
  const worker = await curfew.startWorker()
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  await eventually(async () => expect(await curfew.client.getSla()).toMatchObject({ planned: 1, kept: 1 }))
  const kept = await run('--by', 'relying-party')
  expect(kept).toMatchObject({ code: 0, stderr: '' })
  expect(kept.stdout).not.toContain('not counted yet')
  expect(kept.stdout).toMatch(/^main, accepted from \S+ \S+ to \S+ \S+ \(UTC\)$/m)
  expect(kept.stdout).toMatch(/^promised +99.9 % within 5000 ms of acceptance$/m)
  expect(kept.stdout).toMatch(/^kept +100 %: 1 of 1 deliveries$/m)
  expect(kept.stdout).toMatch(/^acknowledged +p50 \d+ ms, p95 \d+ ms, p99 \d+ ms$/m)
  expect(kept.stdout).toMatch(/^CLIENT +PLANNED .*\nmail +1 +1 +100 % /m)

  await curfew.client.putRelyingParty('main', 'gone', {
    backchannel_logout_uri: `${mail.uri}/nowhere`,
    curfew: { enabled: false },
  })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'bob', clients: ['gone'] })
  await eventually(async () => expect(await curfew.client.getSla()).toMatchObject({ planned: 2, broken: 1 }))
  const broken = await run('--client', 'gone', '--by', 'hour')
  expect(broken.code).toBe(1)
  expect(broken.stdout).toMatch(/^kept +0 %: 0 of 1 deliveries$/m)
  expect(broken.stdout).toMatch(/^error budget +overspent: 1 broken of 0 allowed$/m)
  expect(broken.stdout).toMatch(/^HOUR \(UTC\) .*\n\S+ \S+ +1 +0 +0 % +1 +0 +0 {2}overspent 1000 times$/m)

  const json: Sla = JSON.parse((await run('--json')).stdout)
  expect(json.groups).toBeUndefined()
  expect(json).toMatchObject({ planned: 2, kept: 1, broken: 1 })
  expect((await run('--by', 'week')).code).toBe(2)
  // Not 1, which means a broken SLA.
  expect(await run('--from', 'yesterday')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('400: /from'),
  })
  expect(await run('--client', 'unknown')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^Curfew answered 404: /),
  })

  await curfew.client.putIssuer('quiet', { iss: 'https://quiet.example' })
  const both = await run()
  // One overspent issuer is enough for the exit status.
  expect(both).toMatchObject({ code: 1, stderr: '' })
  expect(both.stdout).toMatch(/^ISSUER +PROMISED +PLANNED +KEPT +SHARE +BROKEN .*BUDGET LEFT/m)
  expect(both.stdout).toMatch(/^main +99.9 % in 5000 ms, 30 days +2 +1 +50 % +1 .*overspent/m)
  expect(both.stdout).toMatch(/^quiet +99.9 % in 5000 ms, 30 days +0 +0 +nothing yet +0 /m)
  expect(JSON.parse((await run('--json')).stdout)).toMatchObject({
    items: [
      { issuer: 'main', broken: 1 },
      { issuer: 'quiet', planned: 0 },
    ],
  })
  expect((await run('--issuer', 'quiet')).code).toBe(0)
  expect(await run('--by', 'hour')).toMatchObject({
    code: 2,
    stderr: 'There are several issuers. Give --issuer NAME: main, quiet\nSee curfew sla --help\n',
  })
  const { key } = await curfew.client.createApiKey({
    name: 'auditor',
    scopes: ['ledger:read'],
    issuer: 'quiet',
  })
  expect((await run('--key', key)).stdout).toMatch(/^quiet, accepted from /)
  expect(both.stdout).not.toContain('not counted yet')
  await worker.stop()
  expect((await run()).stdout).toMatch(/^not counted yet: no delivery worker is alive/m)
})
