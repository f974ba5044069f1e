import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createKafkaEventLog, DEFAULT_TOPICS } from '@curfew/broker'
import type { LogLane } from '@curfew/domain'
import { createQuarantine } from '@curfew/ledger'
import { afterAll, describe, test } from 'vitest'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { createTestDatabase } from '../support/database.ts'
import { missingKafka, uniquePrefix } from '../support/kafka.ts'
import { type EventLogHarness, eventLogContract, type Victim } from './event-log.contract.ts'

// The contract of the event log against its own real broker, which is killed to make it unavailable.

const kafka = await openKafka({ log: (line) => process.stderr.write(`kafka: ${line}\n`), brokers: 1 })

function optionsFor(brokers: readonly string[], prefix: string) {
  const lane = { partitions: 4, retentionMs: 3_600_000 }
  return {
    brokers,
    clientId: 'contract',
    groupId: `${prefix}delivery`,
    topics: {
      ...DEFAULT_TOPICS,
      prefix,
      replicationFactor: 1,
      interactive: lane,
      bulk: lane,
    },
    sessionTimeoutMs: 3_000,
    appendTimeoutMs: 3_000,
  }
}

/** Starts a real process, which can be killed. */
async function openVictim(options: ReturnType<typeof optionsFor>, lane: LogLane): Promise<Victim> {
  const code = `
    const { createKafkaEventLog } = await import(${JSON.stringify(import.meta.resolve('@curfew/broker'))})
    const log = createKafkaEventLog({ ...${JSON.stringify(options)}, quarantine: async () => undefined })
    log.consume({ lane: '${lane}', batchSize: 20, batchesInFlight: 1, onError: console.error }, (batch) => {
      console.log(JSON.stringify(batch.map(({ value }) => Buffer.from(value).toString())))
      return new Promise(() => undefined)
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(child.stdout, 'data')
  return {
    handed: JSON.parse(String(line)) as string[],
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

if (kafka.how === 'none') {
  describe.skip(`the Kafka event log keeps the contract (${missingKafka(kafka.lookedFor)})`, () => {
    test('a broker is required', () => undefined)
  })
} else {
  const { brokers, kill, restart } = kafka
  afterAll(() => kafka.stop())
  const openHarness = async (): Promise<EventLogHarness> => {
    const options = optionsFor(brokers, uniquePrefix())
    const own = await createTestDatabase()
    const victims: Victim[] = []
    return {
      open: async () => createKafkaEventLog({ ...options, quarantine: createQuarantine(own.db) }),
      async openVictim(lane) {
        const victim = await openVictim(options, lane)
        victims.push(victim)
        return victim
      },
      async readQuarantine() {
        const { rows } = await own.db.query<{ value: Buffer; reason: string }>(
          'select value, reason from quarantined_records order by id',
        )
        return rows.map(({ value, reason }) => ({ value: value.toString(), reason }))
      },
      makeUnavailable: () => kill(),
      makeAvailable: () => restart(),
      async close() {
        for (const victim of victims) await victim.kill()
        await own.drop()
      },
    }
  }
  eventLogContract('the Kafka event log', openHarness, {
    patienceMs: 25_000,
    rejectionMs: 4_500,
    slowBatches: false,
  })
}
