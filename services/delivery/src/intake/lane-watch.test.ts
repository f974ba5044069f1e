import { Writable } from 'node:stream'
import { type Consumer, LedgerUnavailableError, type LogFault } from '@curfew/domain'
import { createLog, createMetrics } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { checkLanes, createLaneWatch } from './lane-watch.ts'

// Goal: a fault of a lane is counted, logged and recorded in the ledger, once. Method: faults as event logs report them, and a
// ledger that may be unavailable.

const FAULT: LogFault = { kind: 'removed', lane: 'bulk', partition: 'logout.events.bulk/3', from: 5, to: 9 }

function rig() {
  const lines: Record<string, unknown>[] = []
  const noticed: unknown[] = []
  const metrics = createMetrics()
  let unavailable = false
  const watched = createLaneWatch({
    ledger: {
      async noticeRemoved(fault) {
        if (unavailable) throw new LedgerUnavailableError('PostgreSQL is not available')
        noticed.push(fault)
      },
    },
    worker: { able: () => true },
    log: createLog({
      service: 'test',
      level: 'info',
      destination: new Writable({
        write(chunk: Buffer, _encoding, done) {
          lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>)
          done()
        },
      }),
    }),
    metrics,
  })
  const exposed = async () => (await metrics.expose()).body
  const setUnavailable = (value: boolean) => {
    unavailable = value
  }
  return { watched, lines, noticed, exposed, setUnavailable }
}

test('removed records are recorded, counted and logged', async () => {
  const { watched, lines, noticed, exposed } = rig()
  await watched('bulk').onFault(FAULT)
  await watched('bulk').onFault({ ...FAULT, from: null })
  expect(noticed).toHaveLength(2)
  expect(lines).toMatchObject([
    { event: 'event-log.records-removed', lane: 'bulk', from: 5, to: 9, records: 4 },
    { event: 'event-log.records-removed', from: null, records: null },
  ])
  expect(await exposed()).toContain('curfew_event_log_records_removed_total{lane="bulk"} 5')
})

test('a fault is not reported as handled while the ledger is unavailable', async () => {
  const { watched, lines, setUnavailable, exposed } = rig()
  setUnavailable(true)
  await expect(watched('bulk').onFault(FAULT)).rejects.toBeInstanceOf(LedgerUnavailableError)
  expect(lines).toEqual([])
  expect(await exposed()).not.toContain('removed_total{')
})

test('a rewind is counted and logged', async () => {
  const { watched, lines, noticed, exposed } = rig()
  await watched('sessions').onFault({ ...FAULT, kind: 'rewound', lane: 'sessions' })
  expect(noticed).toEqual([])
  expect(lines).toMatchObject([{ event: 'event-log.rewound', lane: 'sessions', from: 5, to: 9 }])
  expect(await exposed()).toContain('curfew_event_log_rewinds_total{lane="sessions"} 1')
})

test('a repeated failure is logged once a minute for each lane', () => {
  const { watched, lines } = rig()
  for (let count = 0; count < 100; count++) {
    watched('bulk').onError(new Error('incorrect header check'))
    watched('sessions').onError(new Error('incorrect header check'))
  }
  watched('bulk').onError(new Error('another'))
  expect(lines.map(({ lane }) => lane)).toEqual(['bulk', 'sessions', 'bulk'])
})

test('a lane that cannot be read fails the readiness check with the reason', () => {
  const consumer = (status: ReturnType<Consumer['status']>) => ({ status: () => status }) as Consumer
  const error = new Error('incorrect header check')
  checkLanes([consumer({ state: 'consuming' }), consumer({ state: 'joining' }), consumer({ state: 'left' })])
  expect(() =>
    checkLanes([consumer({ state: 'consuming' }), consumer({ state: 'unreadable', error })]),
  ).toThrow('the event log cannot be read: incorrect header check')
})
