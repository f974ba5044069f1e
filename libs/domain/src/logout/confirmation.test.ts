import { expect, test } from 'vitest'
import { confirmationOf } from './confirmation.ts'
import type { ApplicationState, EventSummary } from './summary.ts'

const PLANNED = new Date('2026-11-21T12:00:00Z')
const at = (seconds: number) => new Date(PLANNED.getTime() + seconds * 1_000)
const summaryOf = (
  status: EventSummary['status'],
  ...states: readonly ApplicationState[]
): Pick<EventSummary, 'status' | 'applications'> => ({
  status,
  applications: states.map((state, index) => ({
    ...{ clientId: `rp${index}`, name: `App ${index}`, state, level: 'done' },
    ...{ withinS: 60, byItself: true, notNotified: null, text: 'a sentence for the user' },
  })),
})
const eventOf = (...settledAt: readonly (Date | null)[]) => ({
  plannedAt: PLANNED,
  deliveries: settledAt.map((time) => ({ settledAt: time })),
})

test('a confirmation is complete if and only if the summary is', () => {
  const event = eventOf(at(1))
  expect(confirmationOf(summaryOf('complete', 'signed_out'), event).complete).toBe(true)
  expect(confirmationOf(summaryOf('incomplete', 'not_signed_out'), event).complete).toBe(false)
  // Every delivery is settled, and the application has only begun to sign the user out.
  expect(confirmationOf(summaryOf('in_progress', 'ending'), event).complete).toBe(false)
})

test('a confirmation names each application and its state, and nothing else of it', () => {
  const { applications } = confirmationOf(summaryOf('in_progress', 'signed_out', 'ending'), eventOf(null))
  expect(applications).toEqual([
    { clientId: 'rp0', clientName: 'App 0', state: 'signed_out' },
    { clientId: 'rp1', clientName: 'App 1', state: 'ending' },
  ])
})

test('a logout is settled when its last delivery is', () => {
  const summary = summaryOf('complete')
  expect(confirmationOf(summary, eventOf(at(3), at(5), at(4))).settledAt).toEqual(at(5))
  expect(confirmationOf(summary, eventOf(at(3), null)).settledAt).toBeNull()
})

test('a logout without deliveries is settled when it is planned', () => {
  expect(confirmationOf(summaryOf('complete'), eventOf()).settledAt).toEqual(PLANNED)
})
