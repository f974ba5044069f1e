import { randomUUID } from 'node:crypto'
import { TOKEN_ALGORITHMS } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: one logout reaches exactly the relying parties in its plan, once, and the ledger records it.
// Method: real relying parties that verify every token with the published keys.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(() => curfew.stop())

const settled = async (event: Parameters<Curfew['client']['postLogoutEvent']>[0]) => {
  const { id } = await curfew.client.postLogoutEvent(event)
  return curfew.client.getLogoutEvent(id, { wait: 20 })
}

describe('one logout', () => {
  test('reaches every relying party with a token in its registered algorithm, and all acknowledge', async () => {
    const rps = await Promise.all(
      TOKEN_ALGORITHMS.map((algorithm) =>
        openRelyingParty(curfew, { clientId: `rp-${algorithm}`, algorithm }),
      ),
    )
    const clients = rps.map(({ clientId }) => clientId)
    const event = await settled({ iss: ISS, sub: 'alice', sid: 'sid-1', clients })
    expect(event).toMatchObject({ status: 'settled', total: clients.length, acknowledged: clients.length })
    for (const rp of rps) {
      expect(rp.received.map(({ verification }) => verification.ok)).toEqual([true])
      expect(`rp-${rp.received[0]?.header.alg}`).toBe(rp.clientId)
      expect(rp.received[0]?.claims).toMatchObject({
        aud: rp.clientId,
        sub: 'alice',
        sid: 'sid-1',
        txn: event.id,
      })
    }
    const { rows } = await curfew.db.query(
      'select state, level, attempts from deliveries where event_id = $1',
      [storedId(event.id)],
    )
    expect(rows).toEqual(clients.map(() => ({ state: 'acknowledged', level: 'done', attempts: 1 })))
    await Promise.all(rps.map((rp) => rp.close()))
  })

  test('skips its initiator unless include_initiator is set, and reaches only the clients that it names', async () => {
    await using a = await openRelyingParty(curfew, { clientId: 'a' })
    await using b = await openRelyingParty(curfew, { clientId: 'b' })
    await using c = await openRelyingParty(curfew, { clientId: 'c' })
    const clients = ['a', 'b', 'never-registered']
    const without = await settled({ iss: ISS, sub: 'bob', initiator: 'a', clients })
    expect(without.deliveries.map(({ client_id }) => client_id)).toEqual(['b'])
    const included = await settled({ iss: ISS, sub: 'bob', initiator: 'a', include_initiator: true, clients })
    expect(included.deliveries.map(({ client_id }) => client_id)).toEqual(['a', 'b'])
    const unowed = await settled({ iss: ISS, sub: 'bob', initiator: 'a', clients: ['a'] })
    expect(unowed).toMatchObject({ status: 'settled', total: 0, deliveries: [] })
    expect([a, b, c].map(({ received }) => received.length)).toEqual([1, 2, 0])
  })

  test('reaches a relying party that was registered just before', async () => {
    for (let number = 0; number < 10; number++) {
      await using late = await openRelyingParty(curfew, { clientId: `late-${number}` })
      const event = await settled({ iss: ISS, sub: 'carol', clients: [late.clientId] })
      expect(event).toMatchObject({ total: 1, acknowledged: 1 })
    }
  })

  test('of an unregistered issuer is stored with the plan basis unknown_issuer', async () => {
    const event = await settled({ iss: 'https://unregistered.example', sub: 'alice' })
    expect(event).toMatchObject({
      plan_basis: 'unknown_issuer',
      total: 0,
      status: 'settled',
      iss: 'https://unregistered.example',
    })
  })

  test('of one issuer does not reach another issuer, not even the same client_id', async () => {
    await curfew.client.putIssuer('other', { iss: 'https://other.example' })
    await using here = await openRelyingParty(curfew, { clientId: 'shared' })
    await using there = await openRelyingParty(curfew, {
      clientId: 'shared',
      issuer: 'other',
      iss: 'https://other.example',
    })
    await settled({ iss: 'https://other.example', sub: 'dave' })
    expect([here.received.length, there.received.length]).toEqual([0, 1])
    expect(there.received[0]?.verification.ok).toBe(true)
  })

  test('does not reach a disabled relying party or one without an endpoint, and the ledger records the reason', async () => {
    await using off = await openRelyingParty(curfew, { clientId: 'off', curfew: { enabled: false } })
    const event = await settled({ iss: ISS, sub: 'erin', clients: ['off'] })
    expect(event.deliveries).toMatchObject([
      { state: 'dead_lettered', dead_letter_reason: 'binding_disabled' },
    ])
    await curfew.client.putRelyingParty('main', 'off', { client_name: 'without an endpoint' })
    expect(await settled({ iss: ISS, sub: 'erin', clients: ['off'] })).toMatchObject({
      total: 0,
      status: 'settled',
    })
    expect(off.received).toEqual([])
  })
})

describe('many logouts', () => {
  test('to three relying parties are all acknowledged after exactly one attempt', async () => {
    const rps = await Promise.all(
      ['x', 'y', 'z'].map((name) => openRelyingParty(curfew, { clientId: `many-${name}` })),
    )
    const clients = rps.map(({ clientId }) => clientId)
    const events = Array.from({ length: 500 }, (_, index) => ({
      id: randomUUID(),
      iss: ISS,
      sub: `user-${index % 50}`,
      sid: `s-${index}`,
      clients,
      lane: index % 3 === 0 ? ('bulk' as const) : ('interactive' as const),
    }))
    await Promise.all(
      Array.from({ length: 10 }, (_, part) =>
        curfew.client.postLogoutEvents(events.slice(part * 50, part * 50 + 50)),
      ),
    )
    const ids = events.map(({ id }) => id)
    await eventually(async () => {
      const { rows } = await curfew.db.query(
        `select state, attempts, count(*) as count from deliveries where event_id = any($1::uuid[]) group by 1, 2`,
        [ids.map((id) => storedId(id))],
      )
      expect(rows).toEqual([{ state: 'acknowledged', attempts: 1, count: 1_500 }])
    })
    for (const rp of rps) {
      expect(rp.received.map(({ claims }) => claims.txn).toSorted()).toEqual(ids.toSorted())
      expect(rp.received.every(({ verification }) => verification.ok)).toBe(true)
      expect(new Set(rp.received.map(({ claims }) => claims.jti)).size).toBe(500)
      await rp.close()
    }
    const { rows } = await curfew.db.query('select count(*) as count from log_records')
    expect(rows).toEqual([{ count: 0 }])
  })
})

describe('a record that cannot be read', () => {
  test('is quarantined with the reason, and the records behind it are processed', async () => {
    await using rp = await openRelyingParty(curfew, { clientId: 'behind' })
    const id = randomUUID()
    const key = JSON.stringify([ISS, 'frank'])
    const text = (value: unknown) =>
      new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))
    const headers = { ce_type: 'curfew.logout-event.v1' }
    const good = {
      id,
      iss: ISS,
      sub: 'frank',
      scope: 'subject',
      lane: 'interactive',
      occurred_at: '2026-11-21T05:00:00.000Z',
      accepted_at: '2026-11-21T05:00:00.000Z',
      clients: ['behind'],
    }
    const records = [
      { value: Uint8Array.of(0xff, 0xfe, 0), headers },
      { value: text('{"id":'), headers },
      { value: text('null'), headers },
      { value: text({ ...good, id: randomUUID(), sub: undefined }), headers },
      { value: text({ ...good, id: randomUUID(), surprise: 1 }), headers },
      { value: text({ ...good, id: 'not-a-uuid' }), headers },
      { value: text({ ...good, id: randomUUID() }), headers: {} },
      { value: text({ ...good, id: randomUUID(), occurred_at: '2026-02-31T25:00:00Z' }), headers },
      { value: text({ ...good, id: randomUUID(), accepted_at: '0000-01-01T00:00:00Z' }), headers },
      { value: text({ ...good, id: randomUUID(), sub: 'fr\u0000ank' }), headers },
      { value: text(good), headers },
      { value: text({ ...good, reason: 'admin' }), headers },
    ]
    await curfew.eventLog.append(records.map((record) => ({ lane: 'interactive', key, ...record })))
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({
      acknowledged: 1,
      reason: null,
    })
    await eventually(async () => {
      const { rows } = await curfew.db.query(
        'select kind, reason, value, key from quarantined_records order by id',
      )
      expect(rows).toHaveLength(records.length - 1)
      for (const row of rows) {
        expect(row.reason).toMatch(/[a-z]{3}/)
        expect(row.key).toEqual(Buffer.from(key))
      }
      expect(rows[0]?.value).toEqual(Buffer.of(0xff, 0xfe, 0))
      expect(rows.find(({ kind }) => kind === 'conflict')).toMatchObject({
        reason: `event ${id} of ${ISS} was already accepted with different content`,
      })
    })
    expect(rp.received).toHaveLength(1)
  })
})

describe('the process log', () => {
  test('never contains a token, a key or a subject', () => {
    const text = curfew.lines.join('')
    expect(text).toContain('delivery.attempted')
    expect(text).not.toMatch(/eyJ[\w-]{10}/)
    expect(text).not.toContain(curfew.adminKey)
    expect(text).not.toContain('logout_token')
    for (const subject of ['alice', 'carol', 'user-1', 'frank']) expect(text).not.toContain(`"${subject}"`)
  })
})
