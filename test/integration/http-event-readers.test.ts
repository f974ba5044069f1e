import { randomUUID } from 'node:crypto'
import type { AccessFilter, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'

// Goal: a credential that reads large events again and again does not delay reads of other credentials.
// Method: the real service over a real database. The test counts the large reads that precede another's read.

const B = { issuer: 'b' as IssuerName, iss: 'https://b.example' as Issuer }
const LARGE = 8
let curfew: Curfew
let large: readonly string[]
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  for (const [name, iss] of [[ISSUER, ISS], Object.values(B)] as const)
    await curfew.client.putIssuer(name, { iss })
  await curfew.db.query(
    `insert into relying_parties (issuer, client_id, metadata, settings, revision)
     select 'b', 'b' || n, '{}', '{}', 1 from generate_series(1, 300) n`,
  )
  await curfew.db.query(
    `insert into bindings (relying_party_id, kind, uri, endpoint, settings, names, widens, counts)
     select id, 'backchannel', 'https://b.example/' || id, 'main', '{}', 'either', true, 'done' from relying_parties where issuer = 'b'`,
  )
  large = Array.from({ length: LARGE }, () => randomUUID())
  await addEvents(B.iss, large)
  // Each event has 3,000 deliveries, so that no batch holds two events.
  await curfew.db.query(
    `insert into deliveries (id, event_id, binding_id, state, lane, sid, planned_at, attempts, retries, settled_at, dead_letter_reason)
     select (left(overlay(e.id::text placing '8' from 15), 19) || substr(gen_random_uuid()::text, 20))::uuid, e.id, b.id,
            'dead_lettered', 'interactive', 'sid-' || k, now(), 1, 1, now(), 'gone'
       from unnest($1::uuid[]) as e(id)
      cross join (select b.id from bindings b join relying_parties p on p.id = b.relying_party_id where p.issuer = 'b') b
      cross join generate_series(1, 10) k`,
    [large.map((id) => storedId(id, B.iss))],
  )
  await curfew.db.query('analyze')
}, 60_000)
afterAll(() => curfew.stop())

async function addEvents(iss: string, ids: readonly string[]): Promise<void> {
  await curfew.db.query(
    `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
     select d, g, '\\x00', $3, 's', 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered'
       from unnest($1::uuid[], $2::uuid[]) as e(d, g)`,
    [ids.map((id) => storedId(id, iss)), ids, iss],
  )
}

test.each(['', '/summary'])(
  'a read of another credential does not wait for all large reads: /v1/logout-events/{id}%s',
  async (path) => {
    const id = randomUUID()
    await addEvents(ISS, [id])
    const idp: AccessFilter = { kind: 'issuer', ...B }
    const ofB = curfew.keyBoundTo(idp, 'events:read', 'events:write')
    const ofA = curfew.keyBoundTo(
      { kind: 'issuer', issuer: ISSUER as IssuerName, iss: ISS as Issuer },
      'events:read',
    )
    const read = (key: string, event: string) =>
      curfew.call('GET', `/v1/logout-events/${event}${path}`, undefined, { authorization: `Bearer ${key}` })
    let done = 0
    const reads = Array.from({ length: 24 }, async (_, n) => {
      const { status } = await read(ofB, large[n % LARGE] ?? '')
      done += 1
      return status
    })
    // The large reads are in progress.
    await Promise.race(reads)
    const before = done
    expect((await read(ofA, id)).status).toBe(200)
    expect(done - before).toBeLessThan(9)
    expect(new Set(await Promise.all(reads))).toEqual(new Set([200]))
  },
)
