import { encodeSessionEnd, encodeSessionStart } from '@curfew/contract'
import type {
  ClientId,
  ConsumedRecord,
  Issuer,
  LogRecord,
  Session,
  SessionChanges,
  Sid,
  Subject,
} from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { createSessionIntake } from './sessions.ts'

// Goal: a batch of session changes counts as handled only once the index has it and late logouts are owed. No good record is
// quarantined. Method: a ledger that refuses session changes or late logouts as the test says.

const NOW = new Date('2026-11-21T12:00:00.000Z')
const HOUR_MS = 3_600_000
const STAMP = { id: 'x', acceptedAt: NOW, traceparent: '' }
const session = (sub: string, change: Partial<Session> = {}): Session => ({
  ...{ iss: 'https://idp.example' as Issuer, sub: sub as Subject, sid: 's1' as Sid },
  ...{ clientId: 'mail' as ClientId, device: null },
  ...{ startedAt: new Date(NOW.getTime() - HOUR_MS), expiresAt: new Date(NOW.getTime() + HOUR_MS) },
  ...{ startedStated: true, acceptedAt: NOW },
  ...change,
})
const start = (sub: string, change?: Partial<Session>) => encodeSessionStart(session(sub, change), STAMP)
const END = encodeSessionEnd({ ...session('any'), clientId: null }, STAMP)

interface RigOptions {
  /** Subjects whose sessions PostgreSQL refuses. */
  readonly refuse?: readonly string[]
  readonly follow?: (subjects: readonly string[]) => Promise<void>
}

function rig({ refuse = [], follow = async () => undefined }: RigOptions = {}) {
  const applied: SessionChanges[] = []
  const steps: string[] = []
  const counts: object[] = []
  const intake = createSessionIntake({
    ledger: {
      async applySessions(changes) {
        const bad = changes.starts.some(({ sub }) => refuse.includes(sub))
        if (bad) throw Object.assign(new Error('no such year'), { code: '22008' })
        applied.push(changes)
        steps.push(`applied ${changes.starts.map(({ sub }) => sub).join(' ')}`)
      },
      async oweLateLogouts(sessions) {
        steps.push(`owed to ${sessions.map(({ sub }) => sub).join(' ')}`)
        await follow(sessions.map((each) => each.sub))
      },
    },
    log: createLog({ service: 'test', level: 'silent' }),
    holdings: { waitForRoom: async () => void steps.push('admitted') },
    applied: { inc: (labels: object, count: number) => void counts.push({ ...labels, count }) } as never,
    now: () => NOW,
  })
  const handle = (...records: readonly LogRecord[]) =>
    intake(
      records.map((record, n): ConsumedRecord => ({ ...record, position: String(n) })),
      () => undefined,
    )
  return { handle, applied, steps, counts }
}

test('sessions are applied together, and then late logouts are owed', async () => {
  const { handle, steps, counts } = rig()
  expect(await handle(start('alice'), END, start('bob'), start('carol'))).toEqual([])
  expect(steps).toEqual(['admitted', 'applied bob carol', 'owed to bob carol'])
  expect(counts).toEqual([
    { kind: 'started', count: 2 },
    { kind: 'ended', count: 1 },
  ])
})

test('a session that expired long ago is neither applied nor owed a late logout, but a session end is applied', async () => {
  const { handle, steps, applied } = rig()
  const ago = (hours: number) => new Date(NOW.getTime() - hours * 3_600_000)
  const over = start('alice', { startedAt: ago(30), expiresAt: ago(24) })
  // Expired by our clock, which may be ahead of the ledger's.
  const barelyOver = start('bob', { startedAt: ago(30), expiresAt: ago(1) })
  expect(await handle(END, over, barelyOver)).toEqual([])
  expect(steps).toEqual(['admitted', 'applied bob', 'owed to bob'])
  expect(applied[0]?.ends).toHaveLength(1)
})

test('a session whose late logout cannot be written is quarantined alone and blocks no other', async () => {
  const failure = Object.assign(new Error('smallint out of range'), { code: '22003' })
  const { handle, steps } = rig({
    follow: async (subjects) => {
      if (subjects.includes('bad')) throw failure
    },
  })
  const quarantined = await handle(start('alice'), start('bad'), start('bob'))
  expect(quarantined).toMatchObject([
    { record: { position: '1' }, kind: 'refused', reason: expect.stringContaining('smallint out of range') },
  ])
  expect(steps.slice(2)).toEqual(['owed to alice bad bob', 'owed to alice', 'owed to bad', 'owed to bob'])
})

test('a fault that does not recur for a single session quarantines nothing', async () => {
  const failure = Object.assign(new Error('duplicate key'), { code: '23505' })
  const { handle } = rig({
    follow: async (subjects) => {
      if (subjects.length > 1) throw failure
    },
  })
  expect(await handle(start('alice'), start('bob'))).toEqual([])
})

test('a failure of late logouts for another reason rejects the batch and quarantines nothing', async () => {
  const failure = Object.assign(new Error('no such table'), { code: '42P01' })
  const { handle, steps } = rig({ follow: () => Promise.reject(failure) })
  await expect(handle(start('alice'), start('bob'))).rejects.toBe(failure)
  expect(steps).toEqual(['admitted', 'applied alice bob', 'owed to alice bob'])
})

test('a session that PostgreSQL refuses is quarantined alone, and the others are checked for late logouts together', async () => {
  const { handle, steps } = rig({ refuse: ['bad'] })
  const quarantined = await handle(start('alice'), start('bad'), start('bob'))
  expect(quarantined.map(({ record, reason }) => [record.position, reason])).toEqual([
    ['1', 'the ledger refused it: no such year'],
  ])
  expect(steps).toEqual(['admitted', 'applied alice', 'applied bob', 'owed to alice bob'])
})

test('a batch without a readable record does not use the ledger', async () => {
  const { handle, steps } = rig()
  expect(await handle({ ...END, value: new Uint8Array([0xff]) })).toHaveLength(1)
  expect(steps).toEqual([])
})
