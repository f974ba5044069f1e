import { createHash, randomBytes, randomUUID } from 'node:crypto'
import type { LogAudit, LogEntries, LogKeys, ReceiptBundle } from '@curfew/contract'
import { leafHash, parseCheckpointText, parseNote, type ReceiptClaims, verifyInclusion } from '@curfew/domain'
import { compactVerify, createLocalJWKSet } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { sessionsOf } from '../support/session-rows.ts'

// Goal: every settled event has a receipt that proves how it ended. The audit finds later alterations, and an erasure leaves all
// other proofs valid.
// Method: all services, real relying parties, and SQL that alters the ledger as an intruder would.

const sha256 = (data: Uint8Array | string) => createHash('sha256').update(data).digest()
const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'))

async function receiptOf(curfew: Curfew, id: string, query = ''): Promise<string> {
  return eventually(async () => {
    const response = await curfew.call('GET', `/v1/logout-events/${id}/receipt${query}`)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/jose')
    return response.text()
  })
}

async function json<Answer>(curfew: Curfew, path: string): Promise<Answer> {
  const response = await curfew.call('GET', path, undefined, { accept: 'application/json' })
  expect([path, response.status]).toEqual([path, 200])
  return (await response.json()) as Answer
}

/** The claims of a receipt, after a third-party library verified its signature. */
async function claimsOf(curfew: Curfew, jws: string): Promise<ReceiptClaims> {
  const keys = await json<LogKeys>(curfew, '/v1/log/keys')
  const { payload, protectedHeader } = await compactVerify(jws, createLocalJWKSet(keys as never))
  expect(protectedHeader).toMatchObject({ alg: 'EdDSA', typ: 'curfew-receipt+jwt' })
  return JSON.parse(new TextDecoder().decode(payload)) as ReceiptClaims
}

/** Posts a logout and waits for its receipt. */
async function receipted(curfew: Curfew, sub: string) {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub, reason: 'user' })
  const jws = await receiptOf(curfew, id)
  return { id, jws, claims: await claimsOf(curfew, jws) }
}

describe('a receipt', () => {
  let curfew: Curfew
  let rps: readonly RelyingParty[]
  const late: RelyingParty[] = []
  beforeAll(async () => {
    curfew = await openCurfew({ bookkeepers: 2, receipts: { origin: 'logout.example/receipts' } })
    rps = [
      await openRelyingParty(curfew, { clientId: 'mail' }),
      await openRelyingParty(curfew, { clientId: 'wiki', curfew: { retry_schedule_ms: [] } }),
    ]
  })
  afterAll(async () => {
    await curfew.stop()
    await Promise.all([...rps, ...late].map((rp) => rp.close()))
  })

  test('says what was asked and how it ended for each target, with the digest of the accepted token', async () => {
    const { id, claims } = await receipted(curfew, 'alice')
    expect(claims).toMatchObject({
      iss: 'logout.example/receipts',
      event: { id, iss: ISS, sub: 'alice', scope: 'subject', reason: 'user', plan_basis: 'registered' },
      targets: [
        {
          client_id: 'mail',
          channel: 'backchannel',
          endpoint: 'main',
          state: 'acknowledged',
          level: 'done',
          attempts: 1,
          status: 200,
        },
        { client_id: 'wiki', state: 'acknowledged' },
      ],
      sla: { kept: true },
      log: { origin: 'logout.example/receipts' },
    })
    const sent = rps[0]?.received.find(({ claims: { sub } }) => sub === 'alice')
    const token = new URLSearchParams(sent?.body).get('logout_token') ?? ''
    expect(claims.targets[0]?.token_sha256).toBe(sha256(token).toString('base64url'))
  })

  test('comes with all that an offline check needs', async () => {
    const { id, jws } = await receipted(curfew, 'bob')
    const bundle = await json<ReceiptBundle>(curfew, `/v1/logout-events/${id}/receipt`)
    expect(bundle.receipt).toBe(jws)
    const note = parseNote(bundle.checkpoint)
    const checkpoint = parseCheckpointText(note?.text ?? '')
    expect(checkpoint).toMatchObject({ origin: 'logout.example/receipts' })
    const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
    const included = verifyInclusion(
      {
        index: bundle.index,
        size: checkpoint?.size ?? 0,
        hash: leafHash(sha256(payload), sha256),
        proof: bundle.inclusion_proof.map(bytes),
        root: bytes(checkpoint?.root ?? ''),
      },
      sha256,
    )
    expect(included).toBe(true)
  })

  test('does not exist before the event is settled, nor for an unknown event', async () => {
    rps[1]?.behave('hang')
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'carol' })
    await rps[1]?.told(1)
    await eventually(async () => {
      const response = await curfew.call('GET', `/v1/logout-events/${id}/receipt`)
      expect([response.status, response.headers.get('retry-after')]).toEqual([409, '1'])
    })
    rps[1]?.behave(null)
    const unknown = await curfew.call('GET', `/v1/logout-events/${randomUUID()}/receipt`)
    expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([404, '1'])
    expect((await curfew.call('GET', '/v1/logout-events/yesterday/receipt')).status).toBe(404)
  })

  test('of an event without deliveries has no targets and no SLA', async () => {
    const { id } = await curfew.client.postLogoutEvent({ iss: 'https://unregistered.example', sub: 'dave' })
    const claims = await claimsOf(curfew, await receiptOf(curfew, id))
    expect(claims).toMatchObject({ event: { plan_basis: 'unknown_issuer' }, targets: [] })
    expect(claims).not.toHaveProperty('sla')
  })

  test('of the bulk lane has no SLA', async () => {
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'gina', lane: 'bulk' })
    const claims = await claimsOf(curfew, await receiptOf(curfew, id))
    expect(claims.targets).toMatchObject([{ state: 'acknowledged' }, { state: 'acknowledged' }])
    expect(claims).not.toHaveProperty('sla')
    expect(claims.targets[0]).not.toHaveProperty('kept')
    // The SLA rollups are projected together with the receipt.
    const planned = async () => (await curfew.client.getSla({ issuer: 'main' })).planned
    const before = await planned()
    await receiptOf(curfew, (await curfew.client.postLogoutEvent({ iss: ISS, sub: 'hugo', lane: 'bulk' })).id)
    expect(await planned()).toBe(before)
    await receipted(curfew, 'ines')
    expect(await planned()).toBe(before + 2)
  })

  test('is replaced after a replay by another one, which names it', async () => {
    rps[1]?.behave({ status: 500 })
    const { id, claims: first } = await receipted(curfew, 'erin')
    expect(first.targets[1]).toMatchObject({ state: 'dead_lettered', kept: false })
    expect(first.sla?.kept).toBe(false)
    rps[1]?.behave(null)
    const [dead] = (await curfew.client.listDeadLetters({ client_id: 'wiki' })).items
    await curfew.client.startReplay({ filter: { ids: [dead?.id ?? ''] } })
    const second = await eventually(async () => {
      const claims = await claimsOf(curfew, await receiptOf(curfew, id))
      expect(claims.replaces).toBe(first.log.index)
      return claims
    })
    expect(second.targets[1]).toMatchObject({ state: 'acknowledged', replays: 1, kept: false })
    const again = await claimsOf(curfew, await receiptOf(curfew, id, `?index=${first.log.index}`))
    expect(again).toEqual(first)
    const { items } = await json<LogAudit>(curfew, '/v1/log/audit')
    const ledgerOf = ({ log }: ReceiptClaims) => items[log.index]?.ledger
    expect([ledgerOf(first), ledgerOf(second)]).toEqual(['outdated', 'agrees'])
    expect((await curfew.call('GET', `/v1/logout-events/${id}/receipt?index=9999`)).status).toBe(404)
  })

  test('is replaced by another one when a late session adds a delivery', async () => {
    const { id, claims: first } = await receipted(curfew, 'frank')
    // A session that is posted late adds a delivery to the event.
    await openRelyingParty(curfew, { clientId: 'late' }).then((rp) => late.push(rp))
    await curfew.client.postSession({
      ...{ iss: ISS, sub: 'frank', sid: 's-late', client_id: 'late' },
      started_at: new Date(Date.now() - 60_000).toISOString(),
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    })
    await eventually(async () => {
      const claims = await claimsOf(curfew, await receiptOf(curfew, id))
      expect(claims).toMatchObject({ replaces: first.log.index })
      expect(claims.targets.map(({ client_id }) => client_id)).toContain('late')
    })
  })

  test('has its own place in a log without gaps, however many bookkeepers append', async () => {
    const posted = await curfew.client.postLogoutEvents(
      Array.from({ length: 300 }, (_, number) => ({ iss: ISS, sub: `many-${number}` })),
    )
    const ids = posted.map(({ id }) => id ?? '')
    await eventually(async () => {
      const { rows } = await curfew.db.query('select from receipts where event_id = any($1)', [
        ids.map((id) => storedId(id)),
      ])
      expect(rows).toHaveLength(300)
    })
    const { items, size } = await json<LogEntries>(curfew, '/v1/log/entries')
    expect(items.map(({ index }) => index)).toEqual(Array.from({ length: size }, (_, index) => index))
    const { rows } = await curfew.db.query<{ place: number; payload: string }>(
      'select log_index as place, payload from receipts order by log_index',
    )
    expect(rows.map(({ payload }) => sha256(payload).toString('base64'))).toEqual(
      items.map(({ digest }) => digest),
    )
    const audit = await json<LogAudit>(curfew, '/v1/log/audit?start=0&limit=500')
    expect(audit.items.filter(({ ledger }) => ledger === 'contradicts')).toEqual([])
    expect(new Set(audit.items.map(({ receipt }) => receipt))).toEqual(new Set(['intact']))
    const [from, to] = [Math.floor(size / 2), size]
    const proven = await json<{ from_root: string }>(
      curfew,
      `/v1/log/proofs/consistency?from=${from}&to=${to}`,
    )
    const half = await json<{ root: string }>(curfew, `/v1/log/proofs/inclusion?index=0&size=${from}`)
    expect(half.root).toBe(proven.from_root)
    for (const query of [
      `proofs/consistency?from=${size + 1}`,
      `proofs/inclusion?index=${size}`,
      'proofs/inclusion?index=3&size=2',
      'entries?start=3&end=2',
    ])
      expect((await curfew.call('GET', `/v1/log/${query}`)).status).toBe(400)
    expect((await curfew.call('GET', `/v1/log/entries/${size}`)).status).toBe(404)
  })
})

describe('an alteration', () => {
  let curfew: Curfew
  let rp: RelyingParty
  beforeAll(async () => {
    curfew = await openCurfew({ bookkeepers: 1 })
    rp = await openRelyingParty(curfew, { clientId: 'mail' })
  })
  afterAll(async () => {
    await curfew.stop()
    await rp.close()
  })

  const audit = async () => (await json<LogAudit>(curfew, '/v1/log/audit')).items
  const altered = async (path: string) => {
    const response = await curfew.call('GET', path)
    expect([response.status, ((await response.json()) as { title: string }).title]).toEqual([
      500,
      'The ledger was altered',
    ])
    expect(curfew.lines.some((line) => line.includes('"event":"ledger.altered"'))).toBe(true)
  }

  test('of a receipt makes the API withhold it, and the audit names it', async () => {
    const { id, claims } = await receipted(curfew, 'alice')
    await curfew.db.query(
      `update receipts set payload = replace(payload, '"acknowledged"', '"superseded"') where event_id = $1`,
      [storedId(id)],
    )
    await altered(`/v1/logout-events/${id}/receipt`)
    expect((await audit())[claims.log.index]).toMatchObject({ event_id: id, receipt: 'altered' })
  })

  test.each([
    [
      'a delivery',
      "update deliveries set state = 'dead_lettered', level = null, dead_letter_reason = 'refused' where event_id = $1",
      'state was "acknowledged"',
    ],
    ['a deleted delivery', 'delete from deliveries where event_id = $1', 'missing or not settled'],
    [
      'the token of a delivery',
      "update deliveries set token_digest = sha256('another') where event_id = $1",
      'token_sha256 was',
    ],
    [
      'the time of an attempt',
      "update attempts set started_at = started_at - interval '1 second' where delivery_id in (select id from deliveries where event_id = $1)",
      'its attempts contradict',
    ],
    [
      'the answer to an attempt',
      'update attempts set status = 204 where delivery_id in (select id from deliveries where event_id = $1)',
      'its attempts contradict',
    ],
    ['an event', "update events set sub = 'mallory' where id = $1", 'sub was'],
    [
      'the time of the settlement',
      "update deliveries set settled_at = settled_at - interval '1 second' where event_id = $1",
      'settled_at was',
    ],
  ])('of the ledger is found by the audit: %s', async (_, statement, difference) => {
    const { id, claims } = await receipted(curfew, `bob-${randomUUID()}`)
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'intact', ledger: 'agrees' })
    await curfew.db.query(statement, [storedId(id)])
    expect((await audit())[claims.log.index]).toMatchObject({
      event_id: id,
      ledger: 'contradicts',
      differences: expect.arrayContaining([expect.stringContaining(difference)]),
    })
  })

  test('is not hidden by another receipt row for the same place', async () => {
    const { id, claims } = await receipted(curfew, 'mallory')
    await curfew.db.query("update events set sub = 'carol' where id = $1", [storedId(id)])
    const more = `insert into receipts (event_id, given_id, revision, planned_at, settled_at, log_index, payload)
                  select event_id, given_id, revision + 1, planned_at, settled_at, $2, payload
                    from receipts where event_id = $1 and revision = 1`
    await curfew.db.query(more, [storedId(id), 999_999])
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'intact', ledger: 'contradicts' })
    await curfew.db.query('delete from receipts where event_id = $1 and log_index = 999999', [storedId(id)])
    await curfew.db.query(more, [storedId(id), claims.log.index])
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'altered' })
    await curfew.db.query('delete from receipts where event_id = $1 and revision = 2', [storedId(id)])
  })

  test.each([
    ['another revision of the receipt', 'update receipts set revision = 99 where event_id = $1'],
    [
      'another time of the receipt and of the event',
      `with e as (update events set planned_at = planned_at - interval '1 day' where id = $1)
       update receipts set planned_at = planned_at - interval '1 day' where event_id = $1`,
    ],
    [
      'removing the text of the receipt without an erasure',
      'update receipts set payload = null where event_id = $1',
    ],
  ])('is not hidden from the audit by %s', async (_, statement) => {
    const { id, claims } = await receipted(curfew, `erin-${randomUUID()}`)
    await curfew.db.query(
      "update deliveries set settled_at = settled_at - interval '9 s' where event_id = $1",
      [storedId(id)],
    )
    await curfew.db.query(statement, [storedId(id)])
    expect((await audit())[claims.log.index]).toMatchObject({ event_id: id, receipt: 'altered' })
  })

  test('by deleting a receipt leaves a 410, and the audit reports the receipt as gone', async () => {
    const { id, claims } = await receipted(curfew, 'ivan')
    await curfew.db.query('delete from receipts where event_id = $1', [storedId(id)])
    expect((await curfew.call('GET', `/v1/logout-events/${id}/receipt`)).status).toBe(410)
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'gone' })
  })

  test('of a delivery is not hidden by a settlement time in the future', async () => {
    const { id, claims } = await receipted(curfew, 'frank')
    await curfew.db.query(
      "update deliveries set generation = 1, replay_id = gen_random_uuid(), settled_at = now() + interval '1 year' where event_id = $1",
      [storedId(id)],
    )
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'intact', ledger: 'contradicts' })
  })

  test('of an acknowledged delivery is not hidden by making it look replayed', async () => {
    const { id, claims } = await receipted(curfew, 'heidi')
    await curfew.db.query(
      `update deliveries set generation = 1, replay_id = gen_random_uuid(), state = 'pending', level = null,
              settled_at = null, due_at = now() + interval '1 year'
        where event_id = $1`,
      [storedId(id)],
    )
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'intact', ledger: 'contradicts' })
  })

  test('is not reported when an id is posted again after retention deleted its event', async () => {
    const { id, claims } = await receipted(curfew, 'grace')
    // Deletes the event as retention does.
    await curfew.db.query(
      'delete from attempts where delivery_id in (select id from deliveries where event_id = $1)',
      [storedId(id)],
    )
    await curfew.db.query('delete from deliveries where event_id = $1', [storedId(id)])
    await curfew.db.query('delete from events where id = $1', [storedId(id)])
    await curfew.client.postLogoutEvent({ id, iss: ISS, sub: 'grace', reason: 'user' })
    await eventually(async () => {
      const { log } = await claimsOf(curfew, await receiptOf(curfew, id))
      expect(log.index).toBeGreaterThan(claims.log.index)
    })
    const items = await audit()
    expect(items[claims.log.index]).toMatchObject({ event_id: id, receipt: 'intact', ledger: 'gone' })
    expect(items.at(-1)).toMatchObject({ event_id: id, receipt: 'intact', ledger: 'agrees' })
  })

  test('by an erasure empties only the receipt, and the log keeps its digest', async () => {
    const { id, claims } = await receipted(curfew, 'carol')
    const before = await json<LogEntries>(curfew, '/v1/log/entries')
    await curfew.client.eraseSubject('main', 'carol')
    const response = await curfew.call('GET', `/v1/logout-events/${id}/receipt`)
    expect([response.status, await response.json()]).toMatchObject([410, { index: claims.log.index }])
    expect(await json<LogEntries>(curfew, '/v1/log/entries')).toEqual(before)
    expect((await curfew.call('GET', '/v1/log/checkpoint')).status).toBe(200)
    expect((await audit())[claims.log.index]).toMatchObject({ receipt: 'erased' })
  })

  test('of the log itself stops checkpoints and appends, but no other projection', async () => {
    const session = { iss: ISS, sub: 'dave', sid: 'dave-1', client_id: 'mail' }
    await curfew.client.postSession({
      ...session,
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    })
    await eventually(async () => expect(await sessionsOf(curfew.db, 'dave')).toHaveLength(1))
    const flipped = `update log_tiles set hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) where level = 0`
    await curfew.db.query(flipped)
    await altered('/v1/log/checkpoint')
    await altered('/v1/log/entries')
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'dave' })
    await curfew.client.getLogoutEvent(id, { wait: 10 })
    await eventually(() =>
      expect(curfew.lines.some((line) => line.includes('ERR_LEDGER_ALTERED'))).toBe(true),
    )
    await eventually(async () => expect(await sessionsOf(curfew.db, 'dave')).toEqual([]))
    await curfew.db.query(flipped)
    expect(await claimsOf(curfew, await receiptOf(curfew, id))).toMatchObject({ event: { id } })
  })
})

describe('the subject in a receipt', () => {
  test('is hashed if so configured, with a separate key for every event', async () => {
    await using curfew = await openCurfew({ bookkeepers: 1, receipts: { subject: 'hash' } })
    await using rp = await openRelyingParty(curfew, { clientId: 'mail' })
    const [first, second] = [await receipted(curfew, 'alice'), await receipted(curfew, 'alice')]
    expect(rp.received).toHaveLength(2)
    const payload = Buffer.from(first.jws.split('.')[1] ?? '', 'base64url').toString()
    expect(payload).not.toContain('alice')
    expect(first.claims.event.sub_hmac).toMatch(/^[\w-]{43}$/)
    expect(first.claims.event.sub_hmac).not.toBe(second.claims.event.sub_hmac)
    // The audit hashes the subject of the ledger in the same way.
    const { items } = await json<LogAudit>(curfew, '/v1/log/audit')
    expect(items.map(({ ledger }) => ledger)).toEqual(['agrees', 'agrees'])
    await curfew.db.query("update events set sub = 'mallory'")
    const after = await json<LogAudit>(curfew, '/v1/log/audit')
    expect(after.items.map(({ ledger }) => ledger)).toEqual(['contradicts', 'contradicts'])
  })
})

test('a bookkeeper with another master key leaves the journal untouched', async () => {
  await using curfew = await openCurfew({ receipts: { subject: 'hash' } })
  await using rp = await openRelyingParty(curfew, { clientId: 'mail' })
  const right = await curfew.startBookkeeper()
  await receipted(curfew, 'alice')
  await right.stop()
  const wrong = await curfew.startBookkeeper({ masterKey: randomBytes(32) })
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'bob' })
  await rp.told(2)
  await eventually(() => expect(curfew.lines.some((line) => line.includes('ERR_LOG_KEY'))).toBe(true))
  expect((await curfew.call('GET', `/v1/logout-events/${id}/receipt`)).status).toBe(409)
  await wrong.stop()
  await curfew.startBookkeeper()
  expect(await claimsOf(curfew, await receiptOf(curfew, id))).toMatchObject({ log: { index: 1 } })
})
