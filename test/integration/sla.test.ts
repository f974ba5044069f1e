import { createEventLogJob, createSlaJobs } from '@curfew/bookkeeper'
import type { BindingId, ClientId, DeliveryId, InFlightDelivery, LogoutEvent } from '@curfew/domain'
import {
  createPostgresMonitor,
  deleteSlaRollups,
  type Projector,
  planEvents,
  projectJournal,
  projectLeft,
  projectSla,
  readProjectionLag,
  readRegistry,
  settleDeliveries,
} from '@curfew/ledger'
import { createMetrics, type Log } from '@curfew/runtime'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { bindingsOf, count, newEvent, newLease, newWorker, planFor, settledAs } from './ledger-support.ts'

// Goal: no entry is projected twice or blocks others, a wrong request gets a reason, and operators are notified once of a burning
// budget and its causes. The figures themselves are tested in sla-exact.test.ts.
// Method: the real statements, server and bookkeeper, with a clock of the test.

const NOW = new Date('2026-11-21T12:30:20.000Z')
const MINUTE_MS = 60_000
const SILENT: Log = {
  isLevelEnabled: () => false,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}
let now = NOW
let curfew: Curfew

beforeEach(async () => {
  now = NOW
  curfew = await openCurfew({ workers: 0, now: () => now })
  for (const client of ['mail', 'wiki'])
    await curfew.client.putRelyingParty(ISSUER, client, {
      backchannel_logout_uri: `https://${client}.example/logout`,
    })
})
afterEach(() => curfew.stop())

/** Plans logouts accepted `minutesAgo`. By client: acknowledged after that many milliseconds, dead, or pending (null). */
async function logouts(
  number: number,
  { minutesAgo, ...ends }: { minutesAgo: number } & Readonly<Record<string, number | 'dead' | null>>,
): Promise<void> {
  const workerId = await newWorker(curfew.db)
  const { revision, ...registry } = await readRegistry(curfew.db)
  const acceptedAt = new Date(now.getTime() - minutesAgo * MINUTE_MS)
  const batch = Array.from({ length: number }, () =>
    planFor({ ...newEvent(), acceptedAt }, bindingsOf({ revision, ...registry })),
  )
  await planEvents(curfew.db, {
    batch,
    lease: newLease(workerId),
    registryRevision: revision,
    now: acceptedAt,
  })
  const clientOf = ({ bindingId }: InFlightDelivery) =>
    registry.bindings.get(bindingId)?.clientId ?? ('' as ClientId)
  const deliveries = batch.flatMap((planned) => planned.deliveries.map(({ delivery }) => delivery))
  for (const [client, end] of Object.entries(ends)) {
    const own = deliveries.filter((delivery) => clientOf(delivery) === client)
    const settlement = end === 'dead' ? ({ state: 'dead_lettered', reason: 'refused' } as const) : undefined
    if (end === null) continue
    await settleDeliveries(curfew.db, {
      batch: own.map((delivery) => settledAs(delivery, settlement)),
      workerId,
      now: new Date(acceptedAt.getTime() + (end === 'dead' ? 100 : end)),
    })
  }
}

async function project(projectors: readonly Projector[] = [projectSla]): Promise<void> {
  while ((await projectJournal(curfew.db, { limit: 3, projectors })) !== 0);
}

describe('the SLA projection', () => {
  test('writes nothing in a round that fails, and everything once in the next round', async () => {
    await logouts(2, { minutesAgo: 1, mail: 10, wiki: 'dead' })
    const fails: Projector = () => Promise.reject(new Error('on purpose'))
    for (let round = 0; round < 3; round++)
      await expect(project([projectSla, fails])).rejects.toThrow('on purpose')
    expect(await count(curfew.db, 'sla_rollups')).toBe(0)
    await project()
    const expected = { planned: 4, settled: 4, kept: 2, broken: 2, overdue: 0, waiting: 0, share_kept: 0.5 }
    expect(await curfew.client.getSla()).toMatchObject(expected)
  })

  test('skips a binding that does not exist', async () => {
    await logouts(1, { minutesAgo: 1, mail: 10, wiki: 10 })
    const id = '00000000-0000-8000-8000-000000000000' as DeliveryId
    const gone = { id, bindingId: 0 as BindingId, acceptedMs: NOW.getTime() }
    await projectSla(curfew.db, [
      { kind: 'planned', at: NOW, eventIds: [], owed: [gone] },
      { kind: 'settled', at: NOW, settled: [{ ...gone, state: 'lapsed', level: null, generation: 0 }] },
    ])
    await project()
    expect(await curfew.client.getSla()).toMatchObject({ planned: 2, kept: 2 })
    expect(await count(curfew.db, 'sla_rollups where binding_id = 0')).toBe(0)
  })

  test('counts a delivery that another way has made needless as kept', async () => {
    const workerId = await newWorker(curfew.db)
    const registry = await readRegistry(curfew.db)
    const bindings = bindingsOf(registry).filter(({ clientId }) => clientId === 'mail')
    const session = { scope: 'session', sid: 's1', acceptedAt: NOW } as Partial<LogoutEvent>
    const relayed = { clientId: 'mail' as ClientId, token: 'token', verified: true }
    const planAt = async (change: Partial<LogoutEvent>) => {
      const planned = planFor(
        { ...newEvent({ sub: 'alice' }), ...session, ...change } as LogoutEvent,
        bindings,
      )
      const batch = [planned]
      await planEvents(curfew.db, { batch, lease: newLease(workerId), registryRevision: null, now: NOW })
      return planned.deliveries.map(({ delivery }) => settledAs(delivery))
    }
    const first = await planAt({ relayed, clients: ['mail' as ClientId] })
    await settleDeliveries(curfew.db, { batch: first, workerId, now: NOW })
    await planAt({})
    await project()
    now = new Date(NOW.getTime() + 10 * MINUTE_MS)
    expect(await curfew.client.getSla()).toMatchObject({ planned: 2, kept: 2, waiting: 0, overdue: 0 })
  })

  test('keeps the ticks of a slot short, and exact, however many rounds add to it', async () => {
    const { bindings } = await readRegistry(curfew.db)
    const [bindingId] = [...bindings.keys()]
    if (bindingId === undefined) throw new Error('no binding is registered')
    const slotMs = NOW.getTime() - 5 * MINUTE_MS - (NOW.getTime() % (5 * MINUTE_MS))
    for (let round = 0; round < 480; round++) {
      const acceptedMs = slotMs + (round % 60) * 5_000
      const owed = { id: '00000000-0000-8000-8000-000000000000' as DeliveryId, bindingId, acceptedMs }
      await projectSla(curfew.db, [{ kind: 'planned', at: NOW, eventIds: [], owed: [owed] }])
    }
    expect(await count(curfew.db, "sla_rollups where span = 'slot' and octet_length(histogram) > 1000")).toBe(
      0,
    )
    // The promise of two and a half minutes of the slot is past.
    now = new Date(slotMs + 2.5 * MINUTE_MS + 5_000)
    expect(await curfew.client.getSla()).toMatchObject({ planned: 480, overdue: 240, waiting: 240 })
  })

  test('shows in as_of up to which time it is complete', async () => {
    expect((await curfew.client.getSla()).as_of).toBe(NOW.toISOString())
    await logouts(1, { minutesAgo: 2, mail: 10 })
    expect((await curfew.client.getSla()).as_of).toBe('2026-11-21T12:28:20.000Z')
  })

  test('goes on for all others when one delivery cannot be counted, and counts it once it can be', async () => {
    const { bindings } = await readRegistry(curfew.db)
    const [bad] = [...bindings.values()].filter(({ clientId }) => clientId === 'wiki')
    await logouts(1, { minutesAgo: 30, mail: 10, wiki: 10 })
    await curfew.db.query(`alter table sla_rollups add constraint refuses check (binding_id <> ${bad?.id})`)
    const left = { name: 'sla', projector: projectSla, limit: 1, onFailed: () => undefined }
    const names = new Map([[projectSla, 'sla']])
    await projectJournal(curfew.db, { limit: 10, projectors: [projectSla], names })
    expect((await curfew.client.getSla()).as_of).toBe('2026-11-21T12:00:20.000Z')
    for (let rounds = 0; rounds < 12; rounds++) await projectLeft(curfew.db, left)
    expect(await curfew.client.getSla()).toMatchObject({ as_of: NOW.toISOString(), planned: 1, kept: 1 })
    expect((await readProjectionLag(curfew.db)).left.get('sla')).toMatchObject({ entries: 2 })
    await curfew.db.query('alter table sla_rollups drop constraint refuses')
    for (let rounds = 0; rounds < 3; rounds++) await projectLeft(curfew.db, left)
    expect(await curfew.client.getSla()).toMatchObject({ planned: 2, kept: 2 })
  })

  test('that lags behind reports no settled delivery as overdue', async () => {
    await logouts(30, { minutesAgo: 30, mail: 10, wiki: 10 })
    await projectJournal(curfew.db, { limit: 1, projectors: [projectSla] })
    expect(await curfew.client.getSla()).toMatchObject({ planned: 60, kept: 0, waiting: 60, overdue: 0 })
    await project()
    expect(await curfew.client.getSla()).toMatchObject({ planned: 60, kept: 60, waiting: 0 })
  })
})

test('an unsettled delivery waits until the time of the promise is over, and is overdue after it', async () => {
  await logouts(1, { minutesAgo: 0, mail: null, wiki: null })
  await project()
  expect(await curfew.client.getSla()).toMatchObject({ waiting: 2, overdue: 0, share_kept: null })
  // Accepted in the tick from 12:30:20 to 12:30:25, with a promise of five seconds.
  now = new Date('2026-11-21T12:30:29.999Z')
  expect(await curfew.client.getSla()).toMatchObject({ at_risk: { waiting: 2, overdue: 0 } })
  now = new Date('2026-11-21T12:30:30.000Z')
  const late = await curfew.client.getSla()
  expect(late).toMatchObject({ overdue: 2, share_kept: 0, at_risk: { waiting: 0, overdue: 2 } })
  expect(late.error_budget).toEqual({ allowed: 0.002, spent: 2, left: -1.998, share_left: -999 })
})

describe('GET /v1/sla', () => {
  const refused = async (query: string) => {
    const response = await curfew.call('GET', `/v1/sla?${query}`)
    const { errors } = (await response.json()) as { errors?: readonly { pointer: string }[] }
    return [response.status, errors?.[0]?.pointer]
  }

  test.each([
    ['issuer=unknown', 404, undefined],
    ['client_id=unknown', 404, undefined],
    ['from=yesterday', 400, '/from'],
    ['from=2026-11-21T12:00:00Z&to=2026-11-21T11:00:00Z', 400, '/from'],
    ['from=2026-08-01T00:00:00Z', 400, '/from'],
    ['from=2026-11-10T00:00:00Z&group_by=hour', 400, '/from'],
    ['group_by=minute', 400, '/group_by'],
  ])('refuses %s', async (query, status, pointer) => {
    expect(await refused(query)).toEqual([status, pointer])
  })

  test('requires the issuer if there are several', async () => {
    await curfew.client.putIssuer('second', { iss: 'https://second.example' })
    expect(await refused('')).toEqual([400, '/issuer'])
    expect((await curfew.client.getSla({ issuer: 'second' })).planned).toBe(0)
  })

  test('returns the window of the budget, and the promise of the requested issuer or relying party', async () => {
    await curfew.client.putIssuer(ISSUER, {
      iss: ISS,
      sla: { within_ms: 900, objective: 0.5, window_days: 7 },
    })
    await curfew.client.changeRelyingParty(ISSUER, 'mail', () => ({ curfew: { sla: { objective: 0.9 } } }))
    expect(await curfew.client.getSla()).toMatchObject({
      ...{ from: '2026-11-14T12:00:00.000Z', to: '2026-11-21T13:00:00.000Z' },
      promise: { within_ms: 900, objective: 0.5, window_days: 7 },
    })
    const { promise } = await curfew.client.getSla({ client_id: 'mail' })
    expect(promise).toEqual({ within_ms: 900, objective: 0.9, window_days: 7 })
  })

  test('says why accepted logouts are not counted yet', async () => {
    const waiting = async () => (await curfew.client.getSla()).not_counted_yet
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    expect(await waiting()).toBe('no delivery worker is alive: accepted logouts wait in the event log')
    await curfew.db.query(`update log_records set appended_at = now() - interval '2 minutes'`)
    await newWorker(curfew.db)
    expect(await waiting()).toMatch(/^the oldest accepted logout has waited for 1[2-4]\d s in the event log$/)
  })
})

test('slots of five minutes are deleted before hours and days, and hours and days at their own limit', async () => {
  await logouts(1, { minutesAgo: 3 * 24 * 60, mail: 10, wiki: 10 })
  await logouts(1, { minutesAgo: 60, mail: 10, wiki: 10 })
  await project()
  const daysAgo = (days: number) => new Date(NOW.getTime() - days * 24 * 60 * MINUTE_MS)
  const deleteAll = async (before: Date) => {
    let deleted = 0
    for (let batch = 1; batch > 0; deleted += batch)
      batch = await deleteSlaRollups(curfew.db, { slotsBefore: daysAgo(2), before, limit: 1 })
    return deleted
  }
  expect(await deleteAll(daysAgo(4))).toBe(2)
  expect(await curfew.client.getSla()).toMatchObject({ planned: 4, kept: 4 })
  expect(await deleteAll(daysAgo(2))).toBe(4)
  expect(await curfew.client.getSla()).toMatchObject({ planned: 2, kept: 2 })
})

test('a metric shows how long the oldest accepted event waits for its plan', async () => {
  const metrics = createMetrics()
  const job = createEventLogJob({ monitor: createPostgresMonitor(curfew.db), metrics })
  const waited = async () => {
    await job.round()
    const { body } = await metrics.expose()
    return Number(/^curfew_event_log_oldest_seconds\{lane="interactive"\} (\S+)$/m.exec(body)?.[1])
  }
  expect(await waited()).toBe(0)
  for (const sub of ['alice', 'bob', 'carol']) await curfew.client.postLogoutEvent({ iss: ISS, sub })
  const oldest = 'position = (select min(position) from log_records)'
  await curfew.db.query(`update log_records set appended_at = now() - interval '1 minute' where ${oldest}`)
  expect(await waited()).toBeGreaterThanOrEqual(60)
  await using worker = { [Symbol.asyncDispose]: (await curfew.startWorker()).stop }
  expect(worker).toBeDefined()
  await eventually(async () => expect(await waited()).toBe(0))
})

describe('a burning budget', () => {
  function bookkeeper() {
    const metrics = createMetrics()
    const jobs = createSlaJobs({ db: curfew.db, now: () => now, log: SILENT, metrics })
    const round = async () => {
      for (const job of jobs) await job.round()
    }
    return { round, exposed: async () => (await metrics.expose()).body }
  }
  const notifications = async () =>
    (
      await curfew.db.query<{ issuer: string; data: { severity: string } }>(
        `select issuer, data from notifications where type = 'sla.budget_burning' order by data ->> 'severity'`,
      )
    ).rows

  beforeEach(() => curfew.client.putIssuer(ISSUER, { iss: ISS, sla: { within_ms: 5_000, objective: 0.99 } }))

  test('is notified although a bookkeeper with a fast clock saw a burn tomorrow', async () => {
    const tomorrow = new Date(NOW.getTime() + 1_440 * MINUTE_MS)
    await curfew.db.query(
      `insert into sla_burns (issuer, severity, burning_at) values ('main', 'page', $1), ('main', 'ticket', $1)`,
      [tomorrow],
    )
    await logouts(20, { minutesAgo: 3, mail: 6_000, wiki: null })
    await project()
    await bookkeeper().round()
    expect(await notifications()).toHaveLength(2)
  })

  test('causes one notification while it lasts, with any number of bookkeepers, and another after a recovery', async () => {
    const two = [bookkeeper(), bookkeeper()]
    const rounds = () => Promise.all(two.map(({ round }) => round()))
    await logouts(20, { minutesAgo: 200, mail: 10, wiki: 10 })
    await project()
    await rounds()
    expect(await notifications()).toEqual([])

    await logouts(20, { minutesAgo: 3, mail: 6_000, wiki: null })
    await logouts(5, { minutesAgo: 3, mail: 10, wiki: null })
    await project()
    for (let round = 0; round < 3; round++) await rounds()
    expect(await notifications()).toEqual([
      {
        issuer: ISSUER,
        data: {
          ...{ issuer: ISSUER, severity: 'page', within_ms: 5_000, objective: 0.99, overdue: 25 },
          burn_rate: { '1h': 90, '5m': 90 },
          budget_left: -49,
          worst: [
            { client_id: 'wiki', broken: 25, share: 0.556 },
            { client_id: 'mail', broken: 20, share: 0.444 },
          ],
          what: expect.stringMatching(
            / 90 times as fast .* 25 deliveries are overdue now\. Nothing of the budget is left\.$/,
          ),
          fix: expect.any(String),
          links: { sla: '/v1/sla?issuer=main&group_by=relying_party' },
        },
      },
      {
        issuer: ISSUER,
        data: expect.objectContaining({ severity: 'ticket', burn_rate: { '6h': 50, '30m': 90 } }),
      },
    ])

    // The burn stops for a while, and begins again.
    now = new Date(NOW.getTime() + 40 * MINUTE_MS)
    await logouts(20, { minutesAgo: 3, mail: 10, wiki: 'dead' })
    await project()
    await rounds()
    expect(await notifications()).toHaveLength(2)
    now = new Date(NOW.getTime() + 200 * MINUTE_MS)
    await logouts(20, { minutesAgo: 3, mail: 10, wiki: 'dead' })
    await project()
    await rounds()
    expect((await notifications()).map(({ data }) => data.severity)).toEqual([
      'page',
      'page',
      'ticket',
      'ticket',
    ])
  })

  test('is not diluted by kept logouts of minutes that are not decided yet', async () => {
    await logouts(10, { minutesAgo: 3, mail: 10, wiki: null })
    now = new Date(NOW.getTime() + 4 * MINUTE_MS)
    await logouts(10, { minutesAgo: 1, mail: 10, wiki: null })
    await project()
    expect((await curfew.client.getSla()).burn_rate).toMatchObject({ '5m': 50, '1h': 50 })
  })

  test.each([15, 24 * 60])('causes a notification with a promise of %i minutes, too', async (minutes) => {
    await curfew.client.putIssuer(ISSUER, {
      iss: ISS,
      sla: { within_ms: minutes * MINUTE_MS, objective: 0.99 },
    })
    // These logouts are not decided yet.
    await logouts(10, { minutesAgo: 3, mail: 10, wiki: null })
    for (const ago of [3, 23, 43])
      await logouts(10, { minutesAgo: minutes + ago, mail: (minutes + 1) * MINUTE_MS, wiki: null })
    await project()
    await bookkeeper().round()
    expect(await notifications()).toMatchObject([
      {
        data: {
          severity: 'page',
          burn_rate: { '1h': 100, '5m': 100 },
          worst: [{ broken: 30 }, { broken: 30 }],
        },
      },
      { data: { severity: 'ticket', burn_rate: { '6h': 100, '30m': 100 } } },
    ])
  })

  test('shows in the metrics of every bookkeeper', async () => {
    const one = bookkeeper()
    expect(await one.exposed()).not.toContain('issuer="main"')
    await logouts(10, { minutesAgo: 3, mail: 10, wiki: 'dead' })
    await project()
    await one.round()
    const lines = (await one.exposed()).split('\n')
    expect(lines).toEqual(
      expect.arrayContaining([
        'curfew_sla_share_kept{issuer="main"} 0.5',
        expect.stringMatching(/^curfew_sla_error_budget_left\{issuer="main"\} -(49|48\.9)/),
        expect.stringMatching(/^curfew_sla_burn_rate\{issuer="main",window="5m"\} (50|49\.9)/),
        'curfew_sla_broken{issuer="main",window="5m"} 10',
      ]),
    )
  })
})
