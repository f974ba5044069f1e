import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an administrator registers a resource server at a terminal, and sees whether it reads the cutoff feed.
// Method: the real command against the real console.

const processes = useProcesses()
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS })
})
afterAll(() => curfew.stop())

const run = (...args: readonly string[]) =>
  runCurfew(processes, ['resource-server', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

test('a resource server is put, shown with its readers, listed and removed', async () => {
  const none = await run('list')
  expect(none).toMatchObject({ code: 0, stdout: `No resource servers at ${ISSUER}.\n` })
  const put = await run('put', 'orders-api', '--resource-name', 'Orders')
  expect(put).toMatchObject({ code: 0, stderr: '' })
  expect(put.stdout).toMatch(/^readers +none within the last hour$/m)
  expect(await curfew.client.getResourceServer(ISSUER, 'orders-api')).toMatchObject({
    resource_name: 'Orders',
  })
  const access = { kind: 'clients', issuer: ISSUER, iss: ISS, clients: new Set(['orders-api']) } as never
  const authorization = `Bearer ${curfew.keyBoundTo(access, 'revocations:read')}`
  await expect
    .poll(
      async () => {
        const path = `/v1/issuers/${ISSUER}/revocations?after=0&reader=pod-1`
        return (await curfew.call('GET', path, undefined, { authorization })).status
      },
      { timeout: 20_000 },
    )
    .toBe(200)
  const shown = await run('show', 'orders-api')
  expect(shown.stdout).toMatch(/^not applied +0 logouts$/m)
  expect(shown.stdout).toMatch(/^pod-1 +0 +\d{4}-/m)
  expect((await run('list')).stdout).toMatch(/^orders-api +Orders +1 +0$/m)
  const json = await run('show', 'orders-api', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject({ client_id: 'orders-api', readers: [{ reader: 'pod-1' }] })
  expect((await run('delete', 'orders-api')).stdout).toBe(`Removed orders-api from ${ISSUER}.\n`)
  expect(await run('show', 'orders-api')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('No resource server orders-api'),
  })
})
