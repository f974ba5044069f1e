import type { DeliveryId } from '@curfew/domain'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLeaseBook } from './lease-book.ts'

const ids = (...names: string[]) => names as DeliveryId[]

test('a lease ends when the ledger has confirmed the end of all its deliveries', () => {
  const book = createLeaseBook()
  book.took(1, ids('a', 'b'))
  book.took(2, ids('c'))
  book.ended(1, ids('a'))
  expect(book.look(ids('b', 'c'))).toEqual({ ended: [], held: [1, 2], others: [] })
  book.ended(1, ids('b'))
  const state = book.look(ids('c'))
  expect(state).toEqual({ ended: [{ number: 1, deliveries: 2 }], held: [2], others: [] })
  // The book names the lease until the ledger has deleted it.
  expect(book.look(ids('c'))).toEqual(state)
  book.deleted(state.ended)
  expect(book.look(ids('c'))).toEqual({ ended: [], held: [2], others: [] })
})

test('the ledger must check a lease with a delivery that is neither held nor ended', () => {
  const book = createLeaseBook()
  book.took(1, ids('dropped', 'running'))
  expect(book.look(ids('running'))).toEqual({ ended: [], held: [], others: ids('running') })
  book.ended(1, ids('running'))
  expect(book.look([])).toEqual({ ended: [], held: [], others: [] })
})

test('a late answer about an earlier lease of a delivery does not end its current lease', () => {
  const book = createLeaseBook()
  book.took(1, ids('a'))
  // The delivery was given back and leased again before the answer to the release arrived.
  book.took(2, ids('a'))
  book.ended(1, ids('a'))
  expect(book.look(ids('a'))).toEqual({ ended: [{ number: 1, deliveries: 1 }], held: [2], others: [] })
})

test('the lease of a held delivery is never named as ended, and the lease of a dropped one is checked', () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd', 'e')
  const step = fc.record({ id: name, what: fc.constantFrom('take', 'settle', 'give back', 'answer', 'drop') })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const book = createLeaseBook()
      const leaseOf = new Map<string, number>()
      const answers: (readonly [number, string])[] = []
      let last = 0
      for (const { id, what } of steps) {
        const number = leaseOf.get(id)
        if (what === 'take' && number === undefined) {
          last += 1
          book.took(last, ids(id, `beside ${id} ${last}`))
          leaseOf.set(id, last).set(`beside ${id} ${last}`, last)
        }
        if (what === 'settle' && number !== undefined) book.ended(number, ids(id))
        // The ledger has stored the release and may lease the delivery again at once. The answer arrives later.
        if (what === 'give back' && number !== undefined) answers.push([number, id])
        if (what === 'answer')
          for (const [earlier, given] of answers.splice(0, 1)) book.ended(earlier, ids(given))
        if (number !== undefined && what !== 'take' && what !== 'answer') leaseOf.delete(id)
        const state = book.look(ids(...leaseOf.keys()))
        for (const [held, of] of leaseOf) {
          expect(state.ended.map((one) => one.number)).not.toContain(of)
          expect(state.held.includes(of) || state.others.includes(held as DeliveryId)).toBe(true)
        }
        if (what === 'drop' && number !== undefined) expect(state.held).not.toContain(number)
      }
    }),
  )
})
