import type { DeliveryId } from '@curfew/domain'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLeaseBook } from './lease-book.ts'

const ids = (...names: string[]) => names as DeliveryId[]

test('a lease has ended when the ledger confirmed the end of each of its deliveries', () => {
  const book = createLeaseBook()
  book.took(1, ids('a', 'b'))
  book.took(2, ids('c'))
  book.ended(ids('a'))
  expect(book.look(ids('b', 'c'))).toEqual({ ended: [], held: [1, 2], others: [] })
  book.ended(ids('b'))
  const state = book.look(ids('c'))
  expect(state).toEqual({ ended: [{ number: 1, deliveries: 2 }], held: [2], others: [] })
  // Until the ledger has deleted it, it is named again.
  expect(book.look(ids('c'))).toEqual(state)
  book.deleted(state.ended)
  expect(book.look(ids('c'))).toEqual({ ended: [], held: [2], others: [] })
})

test('a lease of which a delivery is neither held nor ended is for the ledger to look at', () => {
  const book = createLeaseBook()
  book.took(1, ids('dropped', 'running'))
  expect(book.look(ids('running'))).toEqual({ ended: [], held: [], others: ids('running') })
  book.ended(ids('running'))
  expect(book.look([])).toEqual({ ended: [], held: [], others: [] })
})

test('a delivery that is open is held under a lease that is named, or listed, or its lease is looked at', () => {
  const step = fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    what: fc.constantFrom('end', 'drop', 'look'),
  })
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'))),
      fc.array(step),
      (given, steps) => {
        const book = createLeaseBook()
        const held = new Set<string>()
        const leaseOf = new Map<string, number>()
        for (const [index, some] of given.entries()) {
          // A delivery is leased again only after it was let go.
          const free = some.filter((id) => !held.has(id))
          book.took(index, ids(...free))
          for (const id of free) {
            held.add(id)
            leaseOf.set(id, index)
          }
        }
        for (const { id, what } of steps) {
          if (what === 'end' && held.delete(id)) book.ended(ids(id))
          const dropped = what === 'drop' && held.delete(id)
          const state = book.look(ids(...held))
          const left = new Set([...state.held, ...state.ended.map(({ number }) => number)])
          for (const one of held) {
            expect(state.ended.map(({ number }) => number)).not.toContain(leaseOf.get(one))
            expect(left.has(leaseOf.get(one) ?? -1) || state.others.includes(one as DeliveryId)).toBe(true)
          }
          // What was dropped is in no lease that is left alone.
          if (dropped) expect(state.held).not.toContain(leaseOf.get(id))
        }
      },
    ),
  )
})
