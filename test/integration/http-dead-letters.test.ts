import { randomUUID } from 'node:crypto'
import type { AuditEntry, DeadLetter, DeadLetterWithAttempts, Replay, ReplayPreview } from '@curfew/contract'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { pileUp, registerQuietly, standing } from './dead-letters-support.ts'

// Goal: an SRE finds dead letters with advice, previews a replay, follows it and cancels it. The audit log shows who did it.
// Method: the real console over HTTP, with dead letters that are inserted as rows.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  await registerQuietly(curfew.call, ['shop', 'wiki'])
})
afterAll(() => curfew.stop())
beforeEach(() => curfew.db.query('truncate events, deliveries, attempts, replays, audit'))

interface Page<Item> {
  readonly items: readonly Item[]
  readonly next_cursor: string | null
}

async function get<Answer>(path: string): Promise<Answer> {
  const response = await curfew.call('GET', path)
  expect([path, response.status]).toEqual([path, 200])
  return (await response.json()) as Answer
}

async function replay(body: unknown, key = curfew.adminKey): Promise<Response> {
  return curfew.call('POST', '/v1/dead-letters/replay', body, { authorization: `Bearer ${key}` })
}

const idsOf = ({ items }: Page<DeadLetter>) => items.map(({ id }) => id)

describe('GET /v1/dead-letters', () => {
  test('shows where a redirect led', async () => {
    const location = 'https://idp.example/login?next=…'
    const attempt = { status: 302, errorClass: 'http_302', location }
    await pileUp(curfew.db, { clientId: 'shop', count: 1, reason: 'misconfigured', attempt })
    const { items } = await get<Page<DeadLetter>>('/v1/dead-letters')
    expect(items).toMatchObject([
      { status: 302, location, what: expect.stringContaining(`it answered 302, a redirect to ${location}`) },
    ])
    const one = await get<DeadLetterWithAttempts>(items[0]?.links.self ?? '')
    expect(one).toMatchObject({ location, attempts: [{ status: 302, location }] })
  })

  test('explains what went wrong and how to fix it', async () => {
    const [id = ''] = await pileUp(curfew.db, {
      clientId: 'shop',
      count: 1,
      reason: 'refused',
      attempt: { status: 400, errorClass: 'http_400', error: 'invalid_request' },
    })
    const { items } = await get<Page<DeadLetter>>('/v1/dead-letters')
    expect(items).toEqual([
      expect.objectContaining({
        id,
        issuer: 'main',
        client_id: 'shop',
        client_name: 'The shop',
        reason: 'refused',
        what: expect.stringContaining('it answered 400 (invalid_request)'),
        fix: expect.stringContaining('keys'),
        status: 400,
        error: 'invalid_request',
        generation: 0,
        lapsed: false,
      }),
    ])
    const one = await get<DeadLetterWithAttempts>(items[0]?.links.self ?? '')
    expect(one).toMatchObject({ ...items[0], attempts: [{ number: 1, status: 400 }] })
    expect(await get(one.links.delivery)).toMatchObject({ id, state: 'dead_lettered' })
  })

  test('applies each filter, and lists the latest first', async () => {
    const shop = await pileUp(curfew.db, { clientId: 'shop', count: 3, secondsAgo: 100 })
    const refused = await pileUp(curfew.db, { clientId: 'shop', count: 2, secondsAgo: 50, reason: 'refused' })
    const wiki = await pileUp(curfew.db, { clientId: 'wiki', count: 2, secondsAgo: 10 })
    const time = (secondsAgo: number) => new Date(Date.now() - secondsAgo * 1_000).toISOString()
    const queries: readonly (readonly [query: string, ids: readonly string[]])[] = [
      ['', [...shop, ...refused, ...wiki]],
      ['issuer=main', [...shop, ...refused, ...wiki]],
      ['issuer=other', []],
      ['client_id=wiki', wiki],
      ['client_id=unknown', []],
      ['reason=refused', refused],
      ['reason=refused&client_id=wiki', []],
      [`from=${time(70)}`, [...refused, ...wiki]],
      [`from=${time(70)}&to=${time(30)}`, refused],
    ]
    for (const [query, ids] of queries) {
      expect([query, idsOf(await get<Page<DeadLetter>>(`/v1/dead-letters?${query}`))]).toEqual([
        query,
        ids.toReversed(),
      ])
    }
  })

  test.each([1, 3, 4, 8])('has no gaps and no repeats in pages of %i', async (limit) => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 8 })
    // Five have the same time, to the microsecond.
    await curfew.db.query(
      "update deliveries set settled_at = '2026-01-01T00:00:00.000001Z' where id = any($1)",
      [ids.slice(0, 5)],
    )
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: Page<DeadLetter> = await get(
        `/v1/dead-letters?limit=${limit}${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      seen.push(...idsOf(page))
      cursor = page.next_cursor
    }
    expect(seen).toEqual(ids.toReversed())
  })

  test.each([
    'reason=lost',
    'from=yesterday',
    'to=2026-02-30T00:00:00Z',
    'client_id=',
    'limit=0',
    'state=dead_lettered',
    'cursor=x',
    `cursor=${Buffer.from(`1 ${'x'.repeat(36)}`).toString('base64url')}`,
    `cursor=${Buffer.from(`${'9'.repeat(30)} ${randomUUID()}`).toString('base64url')}`,
    `cursor=${Buffer.from(randomUUID()).toString('base64url')}`,
  ])('refuses %s and names the parameter', async (query) => {
    const response = await curfew.call('GET', `/v1/dead-letters?${query}`)
    expect(response.status).toBe(400)
    const { errors } = (await response.json()) as { errors: readonly { pointer: string }[] }
    expect([...new Set(errors.map(({ pointer }) => pointer))]).toEqual([`/${query.split('=', 1)[0]}`])
  })

  test('omits replayed deliveries, and answers 404 for them and for unknown ids', async () => {
    const [id = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1 })
    await curfew.db.query(
      "update deliveries set state = 'pending', due_at = now(), settled_at = null, dead_letter_reason = null",
    )
    expect(idsOf(await get<Page<DeadLetter>>('/v1/dead-letters'))).toEqual([])
    for (const unknown of [id, randomUUID(), 'x']) {
      expect((await curfew.call('GET', `/v1/dead-letters/${unknown}`)).status).toBe(404)
    }
  })
})

describe('POST /v1/dead-letters/replay', () => {
  test('reports with dry_run what it would replay, and changes nothing', async () => {
    const old = await pileUp(curfew.db, { clientId: 'shop', count: 3, secondsAgo: 500 })
    await pileUp(curfew.db, { clientId: 'shop', count: 2, reason: 'refused', sessionEndsInS: -1 })
    await pileUp(curfew.db, { clientId: 'wiki', count: 1, secondsAgo: 20, sessionEndsInS: 60 })
    const preview = (await (await replay({ filter: {}, dry_run: true })).json()) as ReplayPreview
    const { rows } = await curfew.db.query<{ oldest: Date; newest: Date }>(
      'select min(dead_lettered_at) as oldest, max(dead_lettered_at) as newest from deliveries',
    )
    expect(preview).toEqual({
      dry_run: true,
      total: 4,
      lapsed: 2,
      oldest: rows[0]?.oldest.toISOString(),
      newest: rows[0]?.newest.toISOString(),
      groups: [
        expect.objectContaining({ client_id: 'shop', reason: 'attempts_exhausted', count: 3, lapsed: 0 }),
        expect.objectContaining({
          client_id: 'shop',
          client_name: 'The shop',
          reason: 'refused',
          count: 2,
          lapsed: 2,
        }),
        expect.objectContaining({ client_id: 'wiki', reason: 'attempts_exhausted', count: 1, lapsed: 0 }),
      ],
      groups_left_out: 0,
    })
    const dry = async (body: object) => {
      const response = await replay({ ...body, dry_run: true })
      expect(response.status).toBe(200)
      return (await response.json()) as ReplayPreview
    }
    expect(await dry({ filter: {}, include_lapsed: true })).toMatchObject({ total: 6, lapsed: 2 })
    expect(await dry({ filter: { ids: old.slice(0, 2) } })).toMatchObject({ total: 2, lapsed: 0 })
    expect(await dry({ filter: { issuer: 'other' } })).toMatchObject({ total: 0, oldest: null, groups: [] })
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 6 })
    expect((await get<Page<AuditEntry>>('/v1/audit')).items).toEqual([])
  })

  test('answers 202 with a replay that can be followed, and the audit log names the credential', async () => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 2 })
    await pileUp(curfew.db, { clientId: 'wiki', count: 1 })
    const key = curfew.keyFor('deadletters:replay')
    const response = await replay(
      { filter: { client_id: 'shop', ids: ids.map((id) => id.toUpperCase()) } },
      key,
    )
    const job = (await response.json()) as Replay
    expect([response.status, response.headers.get('location')]).toEqual([202, job.links.self])
    expect(job).toMatchObject({ state: 'running', total: 2, done: 0, requested_by: 'deadletters:replay' })
    const bookkeeper = await curfew.startBookkeeper()
    await expect.poll(async () => (await get<Replay>(job.links.self)).state, { timeout: 10_000 }).toBe('done')
    expect(await get<Replay>(job.links.self)).toMatchObject({
      total: 2,
      done: 2,
      waiting: 2,
      acknowledged: 0,
    })
    await bookkeeper.stop()
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 1, 'pending 1': 2 })
    expect((await get<Page<AuditEntry>>('/v1/audit')).items).toEqual([
      {
        id: expect.any(Number),
        at: expect.stringMatching(/Z$/),
        credential: 'deadletters:replay',
        credential_id: null,
        action: 'replay.requested',
        object: job.links.self,
        detail: { filter: job.filter, include_lapsed: false, total: 2 },
      },
    ])
  })

  test.each([
    [{}, ['/filter']],
    [{ filter: { reason: 'lost' } }, ['/filter/reason']],
    [{ filter: { client: 'shop' } }, ['/filter/client']],
    [{ filter: { ids: [] } }, ['/filter/ids']],
    [{ filter: { ids: ['x'] } }, ['/filter/ids/0']],
    [{ filter: { ids: Array.from({ length: 1_001 }, () => randomUUID()) } }, ['/filter/ids']],
    [{ filter: { from: 'yesterday' } }, ['/filter/from']],
    [{ filter: { to: '2026-02-30T00:00:00Z' } }, ['/filter/to']],
    [{ filter: { from: '2026-02-02T00:00:00Z', to: '2026-02-01T00:00:00Z' } }, ['/filter/to']],
    [{ filter: {}, dry_run: 'yes' }, ['/dry_run']],
    [{ filter: {}, include_lapsed: 1 }, ['/include_lapsed']],
    [{ filter: {}, everything: true }, ['/everything']],
  ])('refuses %j and names the member', async (body, pointers) => {
    await pileUp(curfew.db, { clientId: 'shop', count: 1 })
    const response = await replay(body)
    const problem = (await response.json()) as { errors?: readonly { pointer: string }[] }
    expect([response.status, problem.errors?.map(({ pointer }) => pointer)]).toEqual([400, pointers])
    expect((await curfew.db.query('select from replays')).rows).toEqual([])
  })

  test('refuses a key that may only read, even with dry_run', async () => {
    expect((await replay({ filter: {}, dry_run: true }, curfew.keyFor('deadletters:read'))).status).toBe(403)
  })
})

describe('/v1/replays/{id}', () => {
  test('can be cancelled, which replays no further deliveries and is audited', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 3 })
    const job = (await (await replay({ filter: {} })).json()) as Replay
    const cancelled = await curfew.call('DELETE', job.links.self)
    expect([cancelled.status, await cancelled.json()]).toEqual([
      200,
      { ...job, state: 'cancelled', ended_at: expect.any(String) },
    ])
    // A second cancellation changes nothing and is not audited.
    expect((await curfew.call('DELETE', job.links.self)).status).toBe(200)
    const later = (await (await replay({ filter: { reason: 'refused' } })).json()) as Replay
    const bookkeeper = await curfew.startBookkeeper()
    // The bookkeeper carried out the later replay, so it would have carried out the cancelled one first.
    await expect
      .poll(async () => (await get<Replay>(later.links.self)).state, { timeout: 10_000 })
      .toBe('done')
    await bookkeeper.stop()
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 3 })
    const first = await get<Page<AuditEntry>>('/v1/audit?limit=2')
    const second = await get<Page<AuditEntry>>(`/v1/audit?limit=2&cursor=${first.next_cursor}`)
    expect([...first.items, ...second.items].map(({ action, object }) => [action, object])).toEqual([
      ['replay.requested', later.links.self],
      ['replay.cancelled', job.links.self],
      ['replay.requested', job.links.self],
    ])
    expect(second.next_cursor).toBeNull()
  })

  test('is a 404 for an unknown id', async () => {
    for (const method of ['GET', 'DELETE']) {
      for (const id of [randomUUID(), 'x']) {
        expect((await curfew.call(method, `/v1/replays/${id}`)).status).toBe(404)
      }
    }
  })
})

test.each(['cursor=x', `cursor=${Buffer.from('1e3').toString('base64url')}`, 'limit=0'])(
  'GET /v1/audit with %s is refused',
  async (query) => {
    expect((await curfew.call('GET', `/v1/audit?${query}`)).status).toBe(400)
  },
)
