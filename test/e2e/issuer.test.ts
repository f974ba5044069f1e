import type { Issuer } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an administrator registers an issuer at a terminal, and changes one setting of it without the loss of another.
// Method: the real command against the real console.

const processes = useProcesses()
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, publicUrl: 'https://curfew.example' })
})
afterAll(() => curfew.stop())

const run = (...args: readonly string[]) =>
  runCurfew(processes, ['issuer', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

test('issuer put registers an issuer, and leaves the settings that it is not given', async () => {
  expect(await run('put', 'kc')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^There is no issuer kc\. Give --iss /),
  })
  const created = await run('put', 'kc', '--iss', 'https://kc.example', '--lenient-logout-tokens', '--json')
  expect(JSON.parse(created.stdout)).toMatchObject({ lenient_logout_tokens: true, widen: false })
  await curfew.client.putIssuer('kc', {
    iss: 'https://kc.example',
    sla: { within_ms: 2_000, objective: 0.99, window_days: 7 },
    lenient_logout_tokens: true,
    quotas: { sessions: 5 },
    subject_type: 'pairwise',
    defaults: { concurrency: 3 },
  })
  const changed = await run('put', 'kc', '--jwks-uri', 'https://kc.example/certs', '--widen')
  expect(changed).toMatchObject({ code: 0, stderr: '' })
  expect(changed.stdout).toMatch(/^jwks_uri +https:\/\/kc\.example\/certs$/m)
  expect(changed.stdout).toMatch(/^relay +https:\/\/curfew\.example\/relay\/kc\/\{client_id\}$/m)
  expect(await curfew.client.getIssuer('kc')).toMatchObject({
    sla: { within_ms: 2_000, objective: 0.99, window_days: 7 },
    quotas: { sessions: 5 },
    defaults: { concurrency: 3 },
    jwks_uri: 'https://kc.example/certs',
    lenient_logout_tokens: true,
    widen: true,
    subject_type: 'pairwise',
  })
  const back = await run('put', 'kc', '--no-jwks-uri', '--no-lenient-logout-tokens', '--no-widen', '--json')
  const publicly = await run('put', 'kc', '--subject-type', 'public')
  expect(publicly.stdout).toMatch(/^subject type +public$/m)
  const settings = { jwks_uri: null, lenient_logout_tokens: false, widen: false }
  expect(JSON.parse(back.stdout) as Issuer).toMatchObject({ ...settings, defaults: { concurrency: 3 } })
  expect((await run('list')).stdout).toMatch(/^kc +https:\/\/kc\.example$/m)
  expect((await run('show', 'kc')).stdout).toMatch(/^jwks_uri +by discovery$/m)
})

test('issuer put reports a refused setting and contradicting options as wrong usage', async () => {
  expect(await run('put', 'main', '--jwks-uri', 'https://10.0.0.1/certs')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^Curfew answered 400: \/jwks_uri must not be a private/),
  })
  for (const pair of [
    ['--widen', '--no-widen'],
    ['--jwks-uri', 'https://a.example', '--no-jwks-uri'],
  ])
    expect(await run('put', 'main', ...pair)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('not both'),
    })
  expect((await run('show', 'none')).code).toBe(1)
})
