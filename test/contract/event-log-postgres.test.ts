import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { LogLane } from '@curfew/domain'
import { createDatabase, createPostgresEventLog, type Database } from '@curfew/ledger'
import { createTestDatabase } from '../support/database.ts'
import { openGate } from '../support/gate.ts'
import { type EventLogHarness, eventLogContract, type Victim } from './event-log.contract.ts'

const TIMES = { timeoutMs: 1_500, heartbeatMs: 250, sessionTimeoutMs: 3_000 }

/** Every log has its own connections, like a process, through a gate that can be shut. */
async function openHarness(): Promise<EventLogHarness> {
  const own = await createTestDatabase()
  const gate = await openGate(own.url)
  const databases: Database[] = []
  const victims: Victim[] = []
  return {
    async open() {
      const db = createDatabase(gate.url, { poolMax: 3, connectTimeoutMs: 1_000 })
      databases.push(db)
      return createPostgresEventLog({ db, url: gate.url, ...TIMES })
    },
    async openVictim(lane: LogLane) {
      const victim = await openVictim(own.url, lane)
      victims.push(victim)
      return victim
    },
    async readQuarantine() {
      const { rows } = await own.db.query<{ value: Buffer; reason: string }>(
        'select value, reason from quarantined_records order by id',
      )
      return rows.map(({ value, reason }) => ({ value: value.toString(), reason }))
    },
    makeUnavailable: () => gate.shut(),
    makeAvailable: () => gate.open(),
    async close() {
      for (const victim of victims) await victim.kill()
      for (const db of databases) await db.end()
      await gate.close()
      await own.drop()
    },
  }
}

/** Starts a real process, which can be killed. */
async function openVictim(url: string, lane: LogLane): Promise<Victim> {
  const code = `
    const { createDatabase, createPostgresEventLog } = await import(${JSON.stringify(import.meta.resolve('@curfew/ledger'))})
    const url = ${JSON.stringify(url)}
    const log = createPostgresEventLog({ db: createDatabase(url), url, ...${JSON.stringify(TIMES)} })
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

eventLogContract('the PostgreSQL event log', openHarness, { rejectionMs: 2_000 })
