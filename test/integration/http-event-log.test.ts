import type { EventLogView } from '@curfew/contract'
import {
  type AccessFilter,
  type EventLogMonitor,
  EventLogUnavailableError,
  type Issuer,
  type IssuerName,
  type LaneState,
  type LogLane,
} from '@curfew/domain'
import { noteEventLog } from '@curfew/ledger'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: operators see how far delivery is behind and what to do. Other callers see nothing of it.
// Method: the real server over the event log in PostgreSQL. The test supplies the states that only Kafka can have.

const ISSUERS_OWN: AccessFilter = { kind: 'issuer', issuer: ISSUER as IssuerName, iss: ISS as Issuer }
const STEADY = { unknown: null, waiting: 0, oldestSeconds: 0, unassigned: [], removed: 0 } as const
let lanes: readonly LaneState[] = []
let topics: Awaited<ReturnType<EventLogMonitor['look']>>['topics'] = []
let brokersUnavailable: readonly number[] = []
let fault: Error | null = null
const monitor: EventLogMonitor = {
  store: 'kafka',
  async look() {
    if (fault !== null) throw fault
    return { name: 'Kafka cluster one, topics logout.*', brokersUnavailable, lanes, topics }
  },
}

describe('the event log in PostgreSQL', () => {
  let curfew: Curfew
  beforeAll(async () => {
    curfew = await openCurfew({ workers: 0 })
  })
  afterAll(() => curfew.stop())
  const laneOf = async (lane: LogLane) =>
    (await curfew.client.getEventLog()).lanes.find((each) => each.lane === lane)

  test('shows how many records wait, and for how long', async () => {
    expect(await curfew.client.getEventLog()).toMatchObject({
      ok: true,
      store: 'postgresql',
      answer: { ok: true },
      topics: [],
    })
    expect(await laneOf('interactive')).toEqual({
      lane: 'interactive',
      waiting: 0,
      oldest_s: 0,
      unassigned_partitions: null,
      removed: 0,
      ok: true,
      what: 'no record waits',
      fix: null,
    })
    for (const sub of ['alice', 'bob']) await curfew.client.postLogoutEvent({ iss: ISS, sub })
    await curfew.db.query(`update log_records set appended_at = now() - interval '5 minutes'`)
    expect(await laneOf('interactive')).toMatchObject({
      waiting: 2,
      ok: false,
      what: '2 records wait, the oldest for 5 min',
      fix: expect.stringContaining('Check that delivery workers run'),
    })
    expect(await laneOf('bulk')).toMatchObject({ waiting: 0, ok: true })
    expect(await curfew.client.getEventLog()).toMatchObject({ ok: false })
    await using worker = { [Symbol.asyncDispose]: (await curfew.startWorker()).stop }
    expect(worker).toBeDefined()
    await eventually(async () => expect(await laneOf('interactive')).toMatchObject({ waiting: 0, ok: true }))
  })

  test('is shown only to unbound admins', async () => {
    const ask = (key: string) =>
      curfew.call('GET', '/v1/event-log', undefined, { authorization: `Bearer ${key}` })
    const scopes = ['ledger:read', 'deadletters:read', 'clients:read', 'events:read'] as const
    const refused = await ask(curfew.keyFor(...scopes))
    expect([refused.status, await refused.text()]).toEqual([403, expect.not.stringContaining('lanes')])
    const bound = await ask(curfew.keyBoundTo(ISSUERS_OWN, 'admin'))
    expect(bound.status).toBe(403)
    expect((await ask('cfw_wrong')).status).toBe(401)
  })
})

describe('the event log in Kafka', () => {
  let curfew: Curfew
  beforeAll(async () => {
    curfew = await openCurfew({ workers: 0, monitor })
  })
  afterAll(() => curfew.stop())

  async function shown(lane: LaneState): Promise<EventLogView['lanes'][number] | undefined> {
    lanes = [lane]
    return (await curfew.client.getEventLog()).lanes[0]
  }

  test('names unavailable brokers, and is ok without them', async () => {
    brokersUnavailable = [3]
    lanes = []
    expect(await curfew.client.getEventLog()).toMatchObject({
      ok: true,
      answer: {
        ok: true,
        what: 'answers without broker 3',
        fix: expect.stringContaining('Start broker 3 of Kafka.'),
      },
    })
    brokersUnavailable = []
    expect(await curfew.client.getEventLog()).toMatchObject({ answer: { what: 'answers', fix: null } })
  })

  test('shows whether all services use it', async () => {
    const asked = async () => (await curfew.client.getEventLog()).choice
    const name = 'Kafka cluster one, topics logout.*'
    // Reading the choice does not make it.
    await curfew.db.query('delete from event_logs')
    expect(await asked()).toEqual({
      ok: true,
      what: 'will be that of the first service that starts',
      fix: null,
    })
    expect((await curfew.db.query('select from event_logs')).rowCount).toBe(0)
    await noteEventLog(curfew.db, { user: 'ingest at host-1', name: 'Kafka cluster two, topics logout.*' })
    expect(await asked()).toMatchObject({
      ok: false,
      what: `is Kafka cluster two, topics logout.*, but the console uses ${name} and accepts no logouts`,
    })
    await curfew.db.query('delete from event_logs')
    await noteEventLog(curfew.db, { user: 'ingest at host-2', name })
    expect(await asked()).toEqual({ ok: true, what: `is ${name} for every service`, fix: null })
    await noteEventLog(curfew.db, { user: 'ingest at host-1', name: 'PostgreSQL' })
    expect(await asked()).toMatchObject({
      ok: false,
      what: `is ${name}, but ingest at host-1 uses PostgreSQL and accepts no logouts`,
      fix: expect.stringContaining('npx curfew event-log use'),
    })
    expect(await curfew.client.getEventLog()).toMatchObject({ ok: false })
    await curfew.db.query(`update event_logs set used_at = now() - interval '3 minutes'`)
    expect(await asked()).toMatchObject({ ok: true })
  })

  test('names the partitions without a worker', async () => {
    const lane = { lane: 'interactive', ...STEADY } as const
    expect(await shown({ ...lane, unassigned: [3, 7] })).toMatchObject({
      ok: false,
      unassigned_partitions: [3, 7],
      what: 'partitions 3, 7 without a worker; no record waits',
      fix: expect.stringContaining('delivery workers run'),
    })
    expect(await shown({ ...lane, unassigned: [3] })).toMatchObject({
      what: 'partition 3 without a worker; no record waits',
    })
  })

  test('lets the bulk lane wait longer', async () => {
    const late = { ...STEADY, waiting: 1, oldestSeconds: 900 }
    expect(await shown({ lane: 'bulk', ...late })).toMatchObject({
      ok: true,
      what: '1 record waits, the oldest for 15 min',
      fix: null,
    })
    expect(await shown({ lane: 'sessions', ...late })).toMatchObject({ ok: false })
  })

  test('shows how many records were removed unread, and why a lane has no numbers', async () => {
    expect(await shown({ lane: 'bulk', ...STEADY, removed: 208 })).toMatchObject({
      ok: false,
      removed: 208,
      what: '208 records were removed before a worker read them; no record waits',
    })
    expect(await shown({ lane: 'bulk', unknown: 'topic logout.events.bulk is missing' })).toEqual({
      lane: 'bulk',
      waiting: null,
      oldest_s: null,
      unassigned_partitions: null,
      removed: null,
      ok: false,
      what: 'cannot be read: topic logout.events.bulk is missing',
      fix: 'Correct the findings about its topic, check that all brokers answer, and try again.',
    })
  })

  test('distinguishes faults that lose records from faults that can wait', async () => {
    lanes = [{ lane: 'bulk', ...STEADY }]
    const seen = {
      setting: 'retention.ms',
      actual: '1',
      wanted: '2',
      why: 'records go',
      fix: 'kafka-configs.sh',
    }
    topics = [{ topic: 'logout.events', faults: [{ ...seen, severe: false }] }]
    const note = await curfew.client.getEventLog()
    expect(note).toMatchObject({
      ok: true,
      topics: [{ findings: [{ ok: true, what: 'retention.ms is 1 and should be 2: records go' }] }],
    })
    topics = [{ topic: 'logout.events', faults: [{ ...seen, severe: true }] }]
    expect(await curfew.client.getEventLog()).toMatchObject({
      ok: false,
      topics: [{ findings: [{ ok: false }] }],
    })
    topics = []
  })

  test('is shown with its fault while it does not answer', async () => {
    fault = new EventLogUnavailableError('Kafka does not answer', { cause: new Error('refused') })
    expect(await curfew.client.getEventLog()).toMatchObject({
      ok: false,
      answer: { ok: false, what: 'Kafka does not answer: refused', fix: expect.any(String) },
      lanes: [],
      topics: [],
    })
    fault = null
  })
})
