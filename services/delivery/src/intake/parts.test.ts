import type { Issuer, LogoutEvent } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PLAN_DELIVERIES, partsOf } from './parts.ts'
import { createPlanTurns } from './plan-turns.ts'

// Goal: at intake, a fan-out to thousands delays no other issuer's logout. Method: batches of events of small and large issuers.

const BIG = 'https://big.example' as Issuer
const SMALL = 'https://small.example' as Issuer
const registry = {
  issuers: new Map([
    [BIG, { bindings: Array.from({ length: 10_000 }) }],
    [SMALL, { bindings: Array.from({ length: 10 }) }],
  ]),
} as unknown as Registry
const incoming = (iss: Issuer, key: string, clients: readonly string[] | null = null) => ({
  event: { iss, scope: 'subject', clients } as unknown as LogoutEvent,
  record: { key },
})

test('events that owe few deliveries come first and share a statement; an event that owes thousands has its own', () => {
  const [a, b, c, d] = [
    incoming(BIG, 'a'),
    incoming(SMALL, 'b'),
    incoming(BIG, 'c'),
    incoming(BIG, 'd', ['mail']),
  ]
  const parts = partsOf([a, b, c, d], registry)
  expect(parts.map(({ events }) => events)).toEqual([[d, b], [a], [c]])
  expect(parts.map(({ size }) => size)).toEqual([11, 10_000, 10_000])
})

test('no event is lost, events of one key stay in order, and only a single event exceeds the size of a statement', () => {
  const event = fc.tuple(fc.constantFrom(BIG, SMALL), fc.nat(5), fc.option(fc.nat(9)))
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (given) => {
      const batch = given.map(([iss, key, clients]) =>
        incoming(iss, `${iss} ${key}`, clients === null ? null : Array.from({ length: clients }, String)),
      )
      const parts = partsOf(batch, registry)
      const inOrder = parts.flatMap(({ events }) => events)
      expect(new Set(inOrder)).toEqual(new Set(batch))
      for (const [key, ofKey] of Map.groupBy(batch, ({ record }) => record.key)) {
        expect(inOrder.filter(({ record }) => record.key === key)).toEqual(ofKey)
      }
      for (const { events, size } of parts) expect(events.length === 1 || size <= PLAN_DELIVERIES).toBe(true)
    }),
  )
})

test('large plans are written one at a time, and issuers take turns', async () => {
  const turns = createPlanTurns()
  const order: string[] = []
  let running = 0
  const write = (issuer: Issuer, name: string) =>
    turns.run(issuer, async () => {
      expect(++running).toBe(1)
      await Promise.resolve()
      order.push(name)
      running -= 1
      if (name === 'a2') throw new Error('the ledger is unavailable')
    })
  const all = [write(BIG, 'a1'), write(BIG, 'a2'), write(BIG, 'a3'), write(SMALL, 'b1')]
  const outcomes = await Promise.allSettled(all)
  expect(order).toEqual(['a1', 'a2', 'b1', 'a3'])
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
})
