import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SigningKeys } from '@curfew/contract'
import type { IssuerName } from '@curfew/domain'
import { openKeyStore, quarantine } from '@curfew/ledger'
import { createKeyMaker, createKeyring } from '@curfew/tokens'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { register } from '../integration/ledger-support.ts'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { createTestDatabase } from '../support/database.ts'
import { runCurfew, startStandalone, useProcesses } from '../support/processes.ts'

// Goal: an operator rotates keys, replaces the master key and diagnoses faults at a terminal.
// Method: the real command against all services, and an IdP on loopback.

const processes = useProcesses()
let curfew: Curfew
let folder: string
beforeAll(async () => {
  curfew = await openCurfew({ workers: 1, bookkeepers: 1 })
  folder = await mkdtemp(join(tmpdir(), 'curfew-keys-'))
})
afterAll(async () => {
  await curfew.stop()
  await rm(folder, { recursive: true })
})

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCurfew(processes, [...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey, ...env })

test('keys are generated, imported, rotated and retired, and shown with their states', async () => {
  expect(await run(['keys', 'list'])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('No keys yet'),
  })
  const generated = await run(['keys', 'generate', '--alg', 'ES256'])
  expect(generated).toMatchObject({ code: 0, stderr: '' })
  expect(generated.stdout).toMatch(/^KID +ALG +STATE +SOURCE .*\n\S+ +ES256 +current +generated /)

  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const file = join(folder, 'key.json')
  await writeFile(file, JSON.stringify({ ...jwk, kid: 'ours', alg: 'EdDSA' }))
  expect((await run(['keys', 'import', file])).stdout).toMatch(/^ours +EdDSA +current +imported /m)
  const again = await run(['keys', 'import', file])
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('is taken')])

  const rotated = await run(['keys', 'rotate', '--lead-hours', '48', '--json'])
  const { items } = JSON.parse(rotated.stdout) as SigningKeys
  expect(items.map(({ alg, state }) => `${alg} ${state}`).sort()).toEqual([
    'ES256 current',
    'ES256 next',
    'EdDSA current',
  ])
  expect(rotated.stderr).toBe('')
  const overlapping = await run(['keys', 'rotate'])
  expect([overlapping.code, overlapping.stderr]).toEqual([1, expect.stringContaining('signs from')])
  const next = items.find(({ state }) => state === 'next')?.kid ?? ''
  expect((await run(['keys', 'retire', next, '--compromised'])).stdout).not.toContain(next)
  expect((await run(['keys', 'list', '--all'])).stdout).toContain(next)
  expect((await run(['keys', 'rotate', '--every-days', '90'])).stdout).toContain('every 90 days')
  const urgent = await run(['keys', 'rotate', '--alg', 'ES256', '--immediately', '--json'])
  expect(urgent.stderr).toMatch(
    /^The new key signs at once\. .* refuse .* publishes it .*curfew doctor --issuer main /,
  )
  expect(JSON.parse(urgent.stdout)).toMatchObject({ every_days: 90 })
})

test('a key is imported from a JWK Set, and --kid chooses among several private keys', async () => {
  const named = (kid: string) => ({
    ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }),
    ...{ kid, alg: 'EdDSA' },
  })
  const [old, { d: _private, ...published }] = [named('set-old'), named('set-public')]
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const spare = { ...privateKey.export({ format: 'jwk' }), kid: 'set-spare', alg: 'ES384' }
  const file = join(folder, 'set.json')
  await writeFile(file, JSON.stringify({ keys: [published, old] }))
  expect((await run(['keys', 'import', file])).stdout).toMatch(/^set-old +EdDSA /m)
  await writeFile(file, JSON.stringify({ keys: [old, spare] }))
  const ambiguous = await run(['keys', 'import', file])
  expect([ambiguous.code, ambiguous.stderr]).toEqual([
    2,
    expect.stringContaining('--kid: set-old, set-spare.'),
  ])
  expect(ambiguous.stderr).not.toContain(String(old.d))
  expect((await run(['keys', 'import', file, '--kid', 'set-spare'])).stdout).toMatch(/^set-spare +ES384 /m)
  await writeFile(file, JSON.stringify({ keys: [published] }))
  expect(await run(['keys', 'import', file])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('has no private key'),
  })
})

test('a key in PEM is imported; the command says its algorithm, its kid and their reasons', async () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  const file = join(folder, 'key.pem')
  await writeFile(file, privateKey.export({ type: 'pkcs1', format: 'pem' }))
  const imported = await run(['keys', 'import', file])
  expect(imported).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^[\w-]{43} +RS256 +current +imported /m),
  })
  expect(imported.stderr).toMatch(/so it signs RS256\. For another, give --alg/)
  expect(imported.stderr).toMatch(/^kid [\w-]{43}: The key came without a kid, .* its RFC 7638 thumbprint\./m)
  await writeFile(
    file,
    generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey.export({ type: 'sec1', format: 'pem' }),
  )
  const refused = await run(['keys', 'import', file])
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('must not be ES256K')])
})

test('a wrong command or key file is reported without the key', async () => {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const file = join(folder, 'wrong.json')
  await writeFile(file, `not JSON, but a secret: ${jwk.d}`)
  const broken = await run(['keys', 'import', file])
  await writeFile(file, JSON.stringify({ ...jwk, kid: 'theirs', alg: 'ES256' }))
  const contradicting = await run(['keys', 'import', file])
  expect([broken.code, contradicting.code]).toEqual([2, 2])
  expect(contradicting.stderr).toContain('Curfew answered 400: /jwk')
  for (const { stdout, stderr } of [broken, contradicting])
    expect(stdout + stderr).not.toContain(String(jwk.d))
  expect((await run(['keys', 'rotate', '--every-days', 'often'])).code).toBe(2)
  expect((await run(['keys'])).code).toBe(2)
  expect((await run(['keys', 'list', '--key', 'cfw_wrong'])).code).toBe(1)
})

test('doctor reports faults with their fixes, and exits with 0 after they are fixed', async () => {
  const published: Record<string, unknown> = {}
  const idp = createServer((request, response) => {
    response.end(JSON.stringify(published[request.url ?? ''] ?? null))
  })
  idp.listen(0, '127.0.0.1')
  await once(idp, 'listening')
  const iss = `http://127.0.0.1:${(idp.address() as AddressInfo).port}`
  try {
    await curfew.client.putIssuer('loop', { iss })
    const { kid } = await curfew.client.addKey('loop', { alg: 'ES256' })
    published['/.well-known/openid-configuration'] = { issuer: iss, jwks_uri: `${iss}/certs` }
    published['/certs'] = { keys: [] }
    const faulty = await run(['doctor', '--issuer', 'loop'])
    expect(faulty.code).toBe(1)
    expect(faulty.stdout).toMatch(/^ok +database +answers$/m)
    expect(faulty.stdout).toMatch(/^ok +event log +answers$/m)
    expect(faulty.stdout).toMatch(/^ok +master key +answers$/m)
    expect(faulty.stdout).toMatch(/^ok +clock +of the service agrees/m)
    expect(faulty.stdout).toContain(`WRONG  loop: ES256 current ${kid.slice(0, 16)}`)
    expect(faulty.stdout).toContain('Merge /issuers/loop/jwks.json')

    published['/certs'] = await curfew.client.getJwks('loop')
    const healthy = await run(['doctor', '--issuer', 'loop', '--json'])
    expect(healthy.code).toBe(0)
    expect(JSON.parse(healthy.stdout)).toMatchObject({ ok: true })
    await curfew.client.putIssuer('loop', { iss, jwks_uri: `${iss}/certs` })
    published['/certs'] = { keys: [] }
    const relayed = await run(['doctor', '--issuer', 'loop'])
    expect(relayed.stdout).toMatch(/^note +public URL +is not set, so /m)
    expect(relayed.stdout).toMatch(/^ok +loop: relay +The relay verifies logout tokens with the keys of /m)
    expect(relayed.stdout).toMatch(/^WRONG +loop: retries of the relay +A retry is signed by Curfew's key /m)
    expect(relayed.stdout).toMatch(/^public URL: Set CURFEW_PUBLIC_URL to /m)
    published['/certs'] = await curfew.client.getJwks('loop')
    expect((await run(['doctor', '--issuer', 'loop'])).code).toBe(0)
    const value = Buffer.from(JSON.stringify({ iss }))
    const record = { lane: 'interactive', position: '0/1', key: '', value, headers: {} } as const
    await quarantine(curfew.db, [{ record, kind: 'unreadable', reason: 'a test' }])
    const waiting = await run(['doctor', '--issuer', 'loop'])
    expect(waiting.code).toBe(1)
    expect(waiting.stdout).toMatch(/^WRONG +quarantine +1 record waits for a person$/m)
    const { key } = await curfew.client.createApiKey({ name: 'blind', scopes: ['clients:read'] })
    const refused = await run(['doctor', '--issuer', 'loop', '--key', key])
    expect([refused.code, refused.stdout]).toEqual([
      1,
      expect.stringMatching(/^WRONG +quarantine +was not checked: /m),
    ])
    const unknown = await run(['doctor', '--issuer', 'nope'])
    expect(unknown).toMatchObject({
      code: 2,
      stdout: '',
      stderr: 'There is no issuer nope, or this key may not see it.\nSee curfew doctor --help\n',
    })
    // Without --issuer, doctor checks all issuers. One of them does not answer, and one has a name that is reserved for examples.
    await curfew.client.putIssuer('gone', { iss: 'http://127.0.0.1:9' })
    const all = await run(['doctor'])
    expect([all.code, all.stdout]).toEqual([1, expect.stringMatching(/^WRONG +gone: discovery /m)])
    expect(all.stdout).toMatch(/^note +main: discovery /m)
  } finally {
    idp.close()
    idp.closeAllConnections()
  }
  const unreachable = await run(['doctor', '--url', 'http://127.0.0.1:9'])
  expect([unreachable.code, unreachable.stderr]).toEqual([1, expect.stringContaining('does not answer')])
})

test('keys rewrap seals stored keys with the new master key', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  const name = 'main' as IssuerName
  await register(db, 0)
  const [old, current] = [randomBytes(32), randomBytes(32)]
  const open = (masterKey: Uint8Array) =>
    createKeyring({ store: openKeyStore(db), maker: createKeyMaker({ masterKey }), now: () => new Date() })
  await open(old).ensure(name, 'ES256')
  const env = {
    DATABASE_URL: database.url,
    CURFEW_MASTER_KEY: current.toString('base64url'),
    CURFEW_MASTER_KEY_OLD: old.toString('base64url'),
  }
  await expect(open(current).check()).rejects.toThrow('CURFEW_MASTER_KEY')
  const done = await run(['keys', 'rewrap', '--json'], env)
  expect(done).toMatchObject({ code: 0, stderr: expect.stringContaining('1 sealed with') })
  expect(JSON.parse(done.stdout)).toEqual({ seen: 1, rewrapped: 1, unreadable: [] })
  await open(current).check()
  const wrong = await run(['keys', 'rewrap'], {
    ...env,
    CURFEW_MASTER_KEY: randomBytes(32).toString('base64url'),
  })
  expect([wrong.code, wrong.stdout]).toEqual([1, expect.stringContaining('/v1/issuers/main/keys/')])
  const { CURFEW_MASTER_KEY_OLD: _, ...without } = env
  expect((await run(['keys', 'rewrap'], without)).code).toBe(2)
  expect(done.stdout + done.stderr + wrong.stderr).not.toContain(env.CURFEW_MASTER_KEY)
})

test('curfew up seals its keys again with a new master key, and logouts wait while a wrong one is set', {
  timeout: 120_000,
}, async () => {
  const dataFolder = await processes.dataFolder()
  const first = await startStandalone(processes, { dataFolder })
  const { adminKey } = first
  await first.client.putIssuer('main', { iss: 'https://idp.example' })
  const { kid } = await first.client.addKey('main', { alg: 'ES256' })
  let requests = 0
  const shop = createServer((_request, response) => {
    requests += 1
    response.end()
  }).listen(0, '127.0.0.1')
  await once(shop, 'listening')
  await first.client.putRelyingParty('main', 'shop', {
    backchannel_logout_uri: `http://127.0.0.1:${(shop.address() as AddressInfo).port}/`,
    id_token_signed_response_alg: 'ES256',
    curfew: { allowed_networks: ['127.0.0.0/8'] },
  })
  const stop = async ({ process }: typeof first) => {
    process.signal('SIGTERM')
    expect((await process.exit()).code).toBe(0)
  }
  await stop(first)
  const made = (await readFile(join(dataFolder, 'master-key'), 'utf8')).trim()
  const env = { CURFEW_MASTER_KEY: randomBytes(32).toString('base64url') }
  const start = (more: Readonly<Record<string, string>>, says?: RegExp) =>
    startStandalone(processes, { dataFolder, adminKey, env: { ...env, ...more }, ...(says && { says }) })

  // It answers, but is never ready: its delivery worker waits for the key.
  const wrong = await start({}, /"master-key\.wrong"/)
  expect(await wrong.client.readiness()).toMatchObject({ unavailable: ['master-key'] })
  const { id } = await wrong.client.postLogoutEvent({ iss: 'https://idp.example', sub: 'alice' })
  await expect(wrong.client.getLogoutEvent(id, { wait: 1 })).rejects.toThrow()
  await stop(wrong)
  const both = await start({ CURFEW_MASTER_KEY_OLD: made })
  expect(await both.client.readiness()).toMatchObject({ unavailable: [] })
  const event = await both.client.getLogoutEvent(id, { wait: 20 })
  expect([event.deliveries.map(({ state }) => state), requests]).toEqual([['acknowledged'], 1])
  shop.close()
  await stop(both)
  const last = await start({})
  expect(await last.client.readiness()).toMatchObject({ unavailable: [] })
  expect((await last.client.listKeys('main')).items.map((key) => key.kid)).toEqual([kid])
})
