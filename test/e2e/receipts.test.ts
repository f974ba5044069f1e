import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogKeys, ReceiptBundle } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew, storedId } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: an auditor verifies the result of a logout from a file, without a network, and detects alterations by the operator.
// Method: the real command, with altered files, and a ledger that is altered by SQL.

const processes = useProcesses()
let folder: string
let curfew: Curfew
let rp: RelyingParty
const path = (name: string) => join(folder, name)
/** Runs a command without a reachable Curfew, so an online check would fail. */
const offline = (...args: readonly string[]) =>
  runCurfew(processes, args, { CURFEW_URL: 'http://127.0.0.1:9' })
const run = (...args: readonly string[]) =>
  runCurfew(processes, args, { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

async function logout(sub: string): Promise<string> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub })
  await eventually(() => curfew.client.getReceipt(id))
  return id
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'curfew-receipts-'))
  curfew = await openCurfew({ bookkeepers: 1, receipts: { origin: 'logout.example/receipts' } })
  rp = await openRelyingParty(curfew, { clientId: 'mail' })
  await logout('zoe')
  expect(await run('log', 'checkpoint', '--out', path('kept'))).toEqual({ code: 0, stdout: '', stderr: '' })
  const id = await logout('alice')
  await logout('bob')
  const got = await run('receipt', 'get', id, '--checkpoint', path('kept'), '--out', path('receipt.json'))
  expect(got).toEqual({ code: 0, stdout: '', stderr: '' })
  const keys = (await (await curfew.call('GET', '/v1/log/keys')).json()) as LogKeys
  await writeFile(path('keys.json'), JSON.stringify(keys))
  await writeFile(path('vkey'), `${keys.vkey}\n`)
  await writeFile(path('receipt.jws'), (await bundle()).receipt)
})
afterAll(async () => {
  await curfew.stop()
  await rp.close()
  await rm(folder, { recursive: true })
})

const bundle = async () => JSON.parse(await readFile(path('receipt.json'), 'utf8')) as ReceiptBundle

/** Verifies a changed bundle. */
async function verifyWith(change: (whole: ReceiptBundle) => object, ...args: readonly string[]) {
  const whole = await bundle()
  await writeFile(path('changed.json'), JSON.stringify({ ...whole, ...change(whole) }))
  return offline('receipt', 'verify', path('changed.json'), '--json', ...args)
}

describe('receipt verify, offline', () => {
  test('prints that a receipt holds, and its contents in words', async () => {
    const args = ['receipt', 'verify', path('receipt.json'), '--key', path('vkey'), '--sub', 'alice']
    const { code, stdout } = await offline(...args)
    expect(code).toBe(0)
    expect(stdout).toMatch(/^subject +yes +The receipt is about the sub alice\.$/m)
    expect(stdout).toMatch(/^signature +yes +The receipt is signed by key [\w-]+\.$/m)
    expect(stdout).toMatch(
      /^inclusion +yes +It is entry 1 of logout\.example\/receipts, which had 3 entries\.$/m,
    )
    expect(stdout).toMatch(/^consistency +- /m)
    expect(stdout).toMatch(/^The receipt is valid\.$/m)
    expect(stdout).toMatch(/^The weakest acknowledgement is done: The session is over\.$/m)
    expect(stdout).toMatch(/^Logout of alice at https:\/\/idp\.example, accepted /m)
    expect(stdout).toMatch(/^mail +backchannel +main +acknowledged +done /m)
  })

  test('shows no SLA result for a delivery without an SLA', async () => {
    await using lone = await openCurfew({ bookkeepers: 1 })
    const party = await openRelyingParty(lone, { clientId: 'mail' })
    const { id } = await lone.client.postLogoutEvent({ iss: ISS, sub: 'alice', lane: 'bulk' })
    await writeFile(path('bulk.json'), JSON.stringify(await eventually(() => lone.client.getReceipt(id))))
    const { stdout } = await offline('receipt', 'verify', path('bulk.json'))
    expect(stdout).toMatch(/^mail +backchannel +main +acknowledged +done .* -$/m)
    await party.close()
  })

  test('verifies that the log extends a kept checkpoint', async () => {
    const args = [
      'receipt',
      'verify',
      path('receipt.json'),
      '--checkpoint',
      path('kept'),
      '--key',
      path('keys.json'),
    ]
    const { code, stdout } = await offline(...args)
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/^consistency +yes +The log begins with all 1 /m),
    ])
  })

  test('names the origin of the key if no key is given', async () => {
    const { code, stdout } = await offline('receipt', 'verify', path('receipt.json'))
    expect([code, stdout]).toEqual([0, expect.stringContaining('The key came with the receipt.')])
  })

  test('checks only the signature of a receipt without proofs, and fails if a checkpoint is given', async () => {
    const alone = await offline('receipt', 'verify', path('receipt.jws'), '--key', path('vkey'))
    expect([alone.code, alone.stdout]).toEqual([0, expect.stringContaining('the file has no proof')])
    const args = ['--key', path('vkey'), '--checkpoint', path('kept')]
    expect((await offline('receipt', 'verify', path('receipt.jws'), ...args)).code).toBe(1)
    expect((await offline('receipt', 'verify', path('receipt.jws'))).code).toBe(2)
  })

  test.each<[string, string, (whole: ReceiptBundle) => object]>([
    [
      'its payload',
      'signature',
      ({ receipt }) => {
        const [header, payload = '', signature] = receipt.split('.')
        const claims = Buffer.from(payload, 'base64url').toString().replace('alice', 'mallory')
        return { receipt: `${header}.${Buffer.from(claims).toString('base64url')}.${signature}` }
      },
    ],
    [
      'its proof',
      'inclusion',
      ({ inclusion_proof: [first = '', ...rest] }) => ({ inclusion_proof: [...rest, first] }),
    ],
    ['its index', 'inclusion', () => ({ index: 0 })],
    [
      'the checkpoint',
      'inclusion',
      ({ checkpoint }) => ({ checkpoint: checkpoint.replace('\n3\n', '\n4\n') }),
    ],
    [
      'the consistency proof',
      'consistency',
      ({ consistency_proof }) => ({
        consistency_proof: { from: 1, hashes: consistency_proof?.hashes.toReversed() },
      }),
    ],
    [
      'the size in the consistency proof',
      'consistency',
      () => ({ consistency_proof: { from: 2, hashes: [] } }),
    ],
  ])('detects a change of %s', async (_, check, change) => {
    const { code, stdout } = await verifyWith(change, '--checkpoint', path('kept'), '--key', path('vkey'))
    const { ok, findings } = JSON.parse(stdout)
    expect([code, ok]).toEqual([1, false])
    expect(findings).toContainEqual(expect.objectContaining({ check, result: 'no' }))
  })

  test('trusts only the given key', async () => {
    await using other = await openCurfew({ workers: 0, receipts: { origin: 'logout.example/receipts' } })
    const keys = (await (await other.call('GET', '/v1/log/keys')).json()) as LogKeys
    await writeFile(path('other'), keys.vkey)
    expect((await offline('receipt', 'verify', path('receipt.json'), '--key', path('other'))).code).toBe(1)
  })

  test('verifies the subject of a receipt with a hashed subject', async () => {
    const of = async (file: string, sub: string) =>
      (await offline('receipt', 'verify', path(file), '--sub', sub)).code
    expect(await of('receipt.json', 'bob')).toBe(1)
    await using hashing = await openCurfew({ bookkeepers: 1, receipts: { subject: 'hash' } })
    const { id } = await hashing.client.postLogoutEvent({ iss: ISS, sub: 'carol' })
    await eventually(() => hashing.client.getReceipt(id))
    await writeFile(path('closed.json'), JSON.stringify(await hashing.client.getReceipt(id)))
    const opened = await hashing.client.getReceipt(id, { subject_key: true })
    await writeFile(path('opened.json'), JSON.stringify(opened))
    expect(await of('closed.json', 'carol')).toBe(1)
    expect([await of('opened.json', 'carol'), await of('opened.json', 'alice')]).toEqual([0, 1])
  })

  test('reports files that cannot be read', async () => {
    expect((await offline('receipt', 'verify', path('nothing'))).code).toBe(2)
    expect((await offline('receipt', 'verify', path('kept'))).code).toBe(2)
    expect((await offline('receipt', 'verify', path('receipt.json'), '--key', path('kept'))).code).toBe(2)
    for (const args of [
      ['receipt', 'verify', path('receipt.json')],
      ['log', 'verify'],
    ])
      expect(await run(...args, '--checkpoint', path('vkey'))).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('is not a checkpoint.'),
      })
    expect((await run('log', 'checkpoint', '--out', path('no/such/folder'))).code).toBe(2)
    expect((await offline('receipt', 'verify')).code).toBe(2)
    for (const part of [
      { inclusion_proof: [5] },
      { consistency_proof: { from: 1, hashes: null } },
      { consistency_proof: null },
      { subject_key: 5 },
    ]) {
      const { code, stderr } = await verifyWith(() => part, '--checkpoint', path('kept'), '--sub', 'alice')
      expect([code, stderr]).toEqual([2, expect.stringMatching(/is not a receipt\.$/m)])
    }
  })
})

describe('log verify', () => {
  const args = () => ['log', 'verify', '--checkpoint', path('kept'), '--log-key', path('vkey')]

  test('finds no fault in an unaltered ledger', async () => {
    const { code, stdout } = await run(...args())
    expect(stdout).toMatch(/^Receipts: 3 intact, 0 altered, 0 erased, 0 not kept any more\.$/m)
    expect(stdout).toMatch(/^Ledger: 3 agree, 0 contradict, /m)
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^Nothing was altered\.$/m)])
  })

  test('names the rows that were altered by SQL', async () => {
    const [first, second] = [await logout('carol'), await logout('dave')]
    await curfew.db.query("update receipts set payload = payload || ' ' where event_id = $1", [
      storedId(first),
    ])
    await curfew.db.query(
      "update deliveries set settled_at = settled_at - interval '9 s' where event_id = $1",
      [storedId(second)],
    )
    const { code, stdout } = await run(...args())
    expect(code).toBe(1)
    expect(stdout).toMatch(new RegExp(`^Entry 3, event ${first}: the stored receipt was altered\\.$`, 'm'))
    expect(stdout).toMatch(
      new RegExp(
        `^Entry 4, event ${second}: the ledger was altered: target mail/backchannel/main: settled_at was `,
        'm',
      ),
    )
    expect(stdout).toMatch(/^2 faults: something was altered\.$/m)
  })

  test('detects a log that was rewritten from its beginning with a kept checkpoint', async () => {
    await run('log', 'checkpoint', '--out', path('later'))
    // An operator with the database and the key can rewrite the whole log, but not the checkpoints that others have kept.
    await curfew.db.query('delete from log_tiles')
    await curfew.db.query('delete from receipts')
    await curfew.db.query("update receipt_log set size = 0, root = sha256('')")
    const id = await logout('mallory')
    expect(await run('receipt', 'get', id, '--checkpoint', path('later'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('The receipt log has fewer entries than the given checkpoint'),
    })
    const { code, stdout } = await run(...args())
    expect([code, stdout]).toEqual([
      1,
      expect.stringContaining('The entries do not match the given checkpoint: the root of the tree differs.'),
    ])
    expect((await run('log', 'verify')).code).toBe(0)
  })
})
