import type { EventLogMonitor, EventLogState } from '@curfew/domain'
import { createMetrics } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { createEventLogJob } from './event-log.ts'

// Goal: the metrics show the current state of the event log, and never an outdated one.

const FAULT = { actual: 'compact', wanted: 'delete', why: 'it removes records', fix: 'a command' }

function openJob() {
  const states: (EventLogState | Error)[] = []
  const monitor: EventLogMonitor = {
    store: 'kafka',
    async look() {
      const state = states.shift()
      if (state === undefined || state instanceof Error) throw state
      return state
    },
  }
  const metrics = createMetrics()
  const job = createEventLogJob({ monitor, metrics })
  return {
    round: (state: EventLogState | Error) => {
      states.push(state)
      return job.round()
    },
    async shown() {
      const { body } = await metrics.expose()
      return body.split('\n').filter((line) => line.startsWith('curfew_event_log_'))
    },
  }
}

test('an unknown lane and a failed check report no value', async () => {
  const { round, shown } = openJob()
  expect(await shown()).toEqual([])
  await round({
    name: 'PostgreSQL',
    brokersUnavailable: [],
    lanes: [
      { lane: 'interactive', unknown: null, waiting: 7, oldestSeconds: 42, unassigned: [0, 3], removed: 0 },
      { lane: 'sessions', unknown: null, waiting: 0, oldestSeconds: 0, unassigned: null, removed: 0 },
      { lane: 'bulk', unknown: 'partition 3 has no leader' },
    ],
    topics: [
      {
        topic: 'logout.events',
        faults: [
          { setting: 'cleanup.policy', ...FAULT, severe: true },
          { setting: 'compression.type', ...FAULT, severe: false },
        ],
      },
      { topic: 'logout.outcomes', faults: [] },
    ],
  })
  expect(await shown()).toEqual([
    'curfew_event_log_oldest_seconds{lane="interactive"} 42',
    'curfew_event_log_oldest_seconds{lane="sessions"} 0',
    'curfew_event_log_lag_records{lane="interactive"} 7',
    'curfew_event_log_lag_records{lane="sessions"} 0',
    'curfew_event_log_unassigned_partitions{lane="interactive"} 2',
    'curfew_event_log_topic_faults{topic="logout.events"} 1',
    'curfew_event_log_topic_faults{topic="logout.outcomes"} 0',
  ])
  await expect(round(new Error('Kafka does not answer'))).rejects.toThrow('does not answer')
  expect(await shown()).toEqual([])
})
