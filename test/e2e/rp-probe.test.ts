import type { Probe } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: the owner of a relying party sees the faults of the endpoint and their fixes at a terminal. A script sees the exit
// status.
// Method: the real command against all services and a real relying party.

const processes = useProcesses()
let curfew: Curfew
let shop: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  shop = await openRelyingParty(curfew, { clientId: 'shop', curfew: { timeout_ms: 2_000 } })
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
})

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCurfew(processes, ['rp', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey, ...env })

test('a probe prints the checks, the fixes and suggested settings', async () => {
  shop.behave(null)
  const { code, stdout } = await run(['probe', '--issuer', 'main', 'shop'])
  // The endpoint uses plain http and is stricter than required, but passes every must.
  expect({ code, stdout }).toMatchObject({ code: 0 })
  expect(stdout).toContain(`shop at main: ${shop.uri}\n`)
  expect(stdout).toMatch(/^RESULT +LEVEL +CHECK +STATUS +MS +IT$/m)
  expect(stdout).toMatch(/^passed +must +alg_none +400 +\d+ +refuses alg none$/m)
  expect(stdout).toMatch(/^FAILED +may +replayed +200 +\d+ /m)
  expect(stdout).toMatch(
    /^replayed \(may; Back-Channel Logout 2\.6 step 8\)\n {2}The same token .*\n {2}Fix: Keep each jti /m,
  )
  expect(stdout).toMatch(/^Suggestion: curfew\.subject_claims "sid"\n {2}It accepts sid alone/m)
  expect(stdout).toMatch(/\nEvery must is passed\. \d+ passed, 3 failed, 0 unknown\.\n$/)
})

test('a failed must exits with 1, and the reason for unknown checks is printed once', async () => {
  // With only one issuer, --issuer is not needed.
  shop.behave({ status: 403, body: 'CSRF token missing \u001b[31m' })
  const { code, stdout } = await run(['probe', 'shop'])
  expect(code).toBe(1)
  expect(stdout).toMatch(/^FAILED +must +endpoint +403 /m)
  // Control characters of the answer are removed, so the terminal does not execute them.
  expect(stdout).toMatch(/^ {2}It answered 403 \(CSRF token missing +\[31m\)\.$/m)
  expect(stdout.match(/^Unknown: .*$/gm)).toHaveLength(3)
  expect(stdout).toMatch(/\nNot every must is passed\. /)
})

test('--json prints JSON to standard output and progress to standard error, and --uri probes another endpoint', async () => {
  await using other = await openRelyingParty(curfew, { clientId: 'other', target: '/other' })
  other.behave((number) => (number === 5 ? 'hang' : null))
  const { code, stdout, stderr } = await run([
    ...['probe', '--issuer', 'main', 'other', '--uri', other.uri, '--alg', 'ES256', '--json'],
  ])
  const probed = JSON.parse(stdout) as Probe
  expect(probed).toMatchObject({ state: 'done', uri: other.uri, client_id: 'other', report: { unknown: 1 } })
  expect(code).toBe(probed.report?.conformant === true ? 0 : 1)
  expect(stderr).toMatch(/\[#+\.*\] +\d+ % {2}\d+ of \d+ requests answered/)
})

test('a real session is ended only if it is confirmed, and --over stores whether it is over', async () => {
  shop.behave(null)
  const refused = await run(['probe', 'shop', '--sid', 'sid-9'])
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('give --yes to end the real session'),
  })
  expect(shop.received.map(({ claims }) => claims?.sid)).not.toContain('sid-9')
  const probed = await run(['probe', 'shop', '--sid', 'sid-9', '--yes'])
  // Only its owner can say whether the session is over.
  expect(probed.code).toBe(1)
  expect(probed.stdout).toMatch(/^unknown +must +session_over +200 /m)
  expect(shop.received.map(({ claims }) => claims?.sid)).toContain('sid-9')
  expect(await run(['probe', 'shop', '--over', 'yes'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^passed +must +session_over +200 /m),
  })
  expect(await run(['probe', 'shop', '--over', 'maybe'])).toMatchObject({ code: 2 })
})

describe('exit statuses and error texts', () => {
  test.each([
    { args: [], says: 'Give a command: list, show' },
    { args: ['prod'], says: "Unknown command 'prod'" },
    { args: ['probe', '--issuer', 'main'], says: "Missing required argument 'ID'" },
    {
      args: ['probe', 'shop', '--issuer', 'main', '--url', 'nowhere'],
      says: 'nowhere is not an http(s) URL',
    },
    { args: ['probe', 'shop', '--issuer', 'main', '--uri', 'http://10.0.0.1/'], says: '/uri must be https' },
    {
      args: ['probe', 'shop', '--issuer', 'main', '--alg', 'none'],
      says: 'must not be none: a logout token must be signed',
    },
  ])('a usage fault exits with 2: $args', async ({ args, says }) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(says)
  })

  test.each([
    { args: ['probe', 'unknown', '--issuer', 'main'], says: 'Give the address as uri' },
    { args: ['probe', 'shop', '--issuer', 'none'], says: 'Curfew answered 404' },
  ])('a refusal exits with 1: $args', async ({ args, says }) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain(says)
  })
})
