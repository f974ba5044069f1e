import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an administrator creates a key for an RP owner at the terminal, sees its use, and revokes it.
// Method: the real command against the real API.

const processes = useProcesses()
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
})
afterAll(() => curfew.stop())

const run = (...args: readonly string[]) =>
  runCurfew(processes, ['api-keys', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

test('a key is created, used, listed and revoked', async () => {
  const bound = ['--issuer', 'main', '--client', 'mail', '--client', 'wiki']
  const created = await run('create', '--name', 'mail team', '--scope', 'clients:read', ...bound)
  expect(created).toMatchObject({ code: 0, stderr: '' })
  const [key = ''] = created.stdout.split('\n')
  const asOwner = () =>
    curfew.call('GET', '/v1/issuers/main/relying-parties/mail', undefined, { authorization: `Bearer ${key}` })
  // 404, not 401: the key is valid, but the client is not registered.
  expect((await asOwner()).status).toBe(404)

  const { items } = JSON.parse((await run('list', '--json')).stdout)
  expect((await run('list')).stdout).toMatch(
    /mail team +cfw_\S{6}… +clients:read +main\/mail main\/wiki +.* +valid/,
  )
  expect(await run('revoke', items[0].id)).toMatchObject({ code: 0, stdout: 'mail team is revoked.\n' })
  expect((await run('list')).stdout).toContain('revoked by admin')
})

test('a wrong command is reported with its exit status', async () => {
  expect(await run('create', '--name', 'x')).toMatchObject({ code: 2 })
  expect(await run('borrow')).toMatchObject({ code: 2 })
  const unknown = await run('create', '--name', 'x', '--scope', 'everything')
  expect(unknown).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('/scopes/0') })
  expect(await run('revoke', 'cfw_something')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('404'),
  })
})
