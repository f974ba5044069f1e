import type { AccessFilter, ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { pileUp } from './dead-letters-support.ts'

// Goal: a cursor reveals nothing, and works only in its own list and for credentials with the same access filter.
// Method: lists in which a page ends at a row of another issuer or client, over HTTP and a real database.

const MANY = { issuer: 'many' as IssuerName, iss: 'https://many.example' as Issuer }
const MAIN = { issuer: 'main' as IssuerName, iss: 'https://idp.example' as Issuer }
const OWNER: AccessFilter = { kind: 'clients', ...MANY, clients: new Set(['m1' as ClientId]) }
/** More rows than one page examines. */
const ROWS = 6_000

const PARTIES = `
  insert into relying_parties (issuer, client_id, metadata, settings, revision)
  select $1, 'm' || n, '{}', '{}', 1 from generate_series(1, $2::int) n`
const BINDINGS = `
  insert into bindings (relying_party_id, kind, uri, endpoint, settings, names, widens, counts)
  select id, 'backchannel', 'https://many.example/' || id, 'main', '{}', 'either', true, 'done' from relying_parties where issuer = $1`
const ORPHANS = `
  insert into sessions (issuer, sub, sid, client_id, started_at, expires_at, logout_event_id, orphaned_at)
  select (select id from session_issuers where iss = $1), 'secret-user-' || n, 'secret-sid-' || n, 'secret-client', now() - interval '1 day',
         now() + interval '1 day', gen_random_uuid(), now() - n * interval '1 second'
    from generate_series(1, $2::int) n`

interface List {
  readonly items: readonly { readonly id?: string; readonly client_id: string }[]
  readonly next_cursor: string | null
}

let curfew: Curfew
let keys: { readonly many: string; readonly main: string; readonly owner: string }
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  await curfew.client.putIssuer(MANY.issuer, { iss: MANY.iss })
  await curfew.client.putIssuer(MAIN.issuer, { iss: MAIN.iss })
  keys = {
    many: curfew.keyBoundTo({ kind: 'issuer', ...MANY }, 'admin'),
    main: curfew.keyBoundTo({ kind: 'issuer', ...MAIN }, 'admin'),
    owner: curfew.keyBoundTo(OWNER, 'admin'),
  }
  await curfew.client.putRelyingParty(MAIN.issuer, 'mail', {
    backchannel_logout_uri: 'https://mail.example/logout',
  })
  await curfew.db.query(PARTIES, [MANY.issuer, 5_001])
  await curfew.db.query(BINDINGS, [MANY.issuer])
  await pileUp(curfew.db, { clientId: 'm1', count: 3, iss: MANY.iss, secondsAgo: 90_000 })
  await pileUp(curfew.db, { clientId: 'mail', count: ROWS, iss: MAIN.iss, secondsAgo: 80_000 })
  await curfew.db.query('insert into session_issuers (iss) values ($1)', [MANY.iss])
  await curfew.db.query(ORPHANS, [MANY.iss, ROWS])
}, 120_000)
afterAll(() => curfew.stop())

async function ask(key: string, path: string) {
  const answer = await curfew.call('GET', path, undefined, { authorization: `Bearer ${key}` })
  return { status: answer.status, body: (await answer.json()) as List & { readonly detail?: string } }
}

/** All pages of a list. */
async function walkThrough(key: string, path: string): Promise<readonly List[]> {
  const pages: List[] = []
  for (let cursor = ''; ; ) {
    const { status, body } = await ask(key, `${path}?limit=2${cursor}`)
    expect(status).toBe(200)
    pages.push(body)
    if (body.next_cursor === null) return pages
    cursor = `&cursor=${body.next_cursor}`
  }
}

/** Every text that a caller could read from a cursor. */
const decoded = (cursor: string) =>
  ['base64url', 'hex', 'utf8']
    .map((encoding) => Buffer.from(cursor, encoding as BufferEncoding).toString('latin1'))
    .join(' ')

describe.each([
  ['deliveries', 'many', '/v1/deliveries', 3],
  ['dead letters', 'many', '/v1/dead-letters', 3],
  ['orphaned sessions', 'owner', '/v1/sessions/orphans', 0],
] as const)('the list of %s', (_what, who, path, own) => {
  test('shows a bound key its own rows, and its cursors hold no value of others', async () => {
    const { rows: ids } = await curfew.db.query<{ id: string }>('select id::text from deliveries')
    const { rows: times } = await curfew.db.query<{ micros: string }>(
      'select trunc(extract(epoch from settled_at))::text as micros from deliveries',
    )
    const foreign = [...ids.map(({ id }) => id), ...times.map(({ micros }) => micros), 'secret-']
    const pages = await walkThrough(keys[who], path)
    expect(pages.flatMap(({ items }) => items).map(({ client_id }) => client_id)).toEqual(
      Array.from({ length: own }, () => 'm1'),
    )
    const cursors = pages.flatMap(({ next_cursor }) => next_cursor ?? [])
    expect(cursors).not.toEqual([])
    for (const cursor of cursors) {
      const text = decoded(cursor)
      expect(foreign.filter((value) => text.includes(value))).toEqual([])
    }
  })
})

test.each([
  ['deliveries', '/v1/deliveries'],
  ['dead letters', '/v1/dead-letters'],
])(
  'a key bound to an issuer of many clients gets its own %s in full pages, whatever others have',
  async (_what, path) => {
    const { issuer, iss } = { issuer: 'some' as IssuerName, iss: 'https://some.example' as Issuer }
    await curfew.client.putIssuer(issuer, { iss })
    const { rows } = await curfew.db.query<{ count: number }>(
      'select count(*) as count from relying_parties where issuer = $1',
      [issuer],
    )
    if (rows[0]?.count === 0) {
      await curfew.db.query(PARTIES.replace("'m' || n", "'s' || n"), [issuer, 1_200])
      await curfew.db.query(BINDINGS, [issuer])
      // In each group of bindings, and older than all rows of others.
      for (const [n, client] of ['s1', 's600', 's1199', 's2', 's700'].entries())
        await pileUp(curfew.db, { clientId: client, count: 3, iss, secondsAgo: 200_000 - n })
    }
    const key = curfew.keyBoundTo({ kind: 'issuer', issuer, iss }, 'admin')
    const pages = await walkThrough(key, path)
    expect(pages.map(({ items }) => items.length)).toEqual([2, 2, 2, 2, 2, 2, 2, 1])
    const whole = await ask(key, `${path}?limit=50`)
    expect(pages.flatMap(({ items }) => items)).toEqual(whole.body.items)
    const ids = whole.body.items.map(({ id }) => id)
    expect(new Set(ids).size).toBe(15)
    const { rows: sorted } = await curfew.db.query<{ id: string }>(
      'select id::text from deliveries where id = any($1::uuid[]) order by dead_lettered_at desc, id desc',
      [ids],
    )
    expect(ids).toEqual(sorted.map(({ id }) => id))
  },
)

test('a cursor of another list, or of a key with another access filter, is refused', async () => {
  const { body } = await ask(keys.main, '/v1/deliveries?limit=2')
  const cursor = body.next_cursor ?? ''
  expect((await ask(keys.main, `/v1/deliveries?cursor=${cursor}`)).status).toBe(200)
  for (const [key, path] of [
    [keys.main, '/v1/dead-letters'],
    [keys.many, '/v1/deliveries'],
    [keys.owner, '/v1/deliveries'],
    [curfew.adminKey, '/v1/deliveries'],
  ] as const) {
    const refused = await ask(key, `${path}?cursor=${cursor}`)
    expect(refused.status).toBe(400)
    expect(refused.body.detail).toMatch(/from another list, from a credential with other rights/)
  }
})

test('a bound key can continue with the cursor of a key that has the same access filter', async () => {
  const { body } = await ask(keys.main, '/v1/deliveries?limit=2')
  const same = curfew.keyBoundTo({ kind: 'issuer', ...MAIN }, 'ledger:read')
  expect((await ask(same, `/v1/deliveries?cursor=${body.next_cursor}`)).status).toBe(200)
})
