import { expect, test } from 'vitest'
import { createFloor } from './event-log-floor.ts'

test('starts behind what was committed some seconds ago, never behind what was committed just now', () => {
  const floor = createFloor(0)
  floor.fetched()
  floor.committed(100)
  floor.advance(2_000)
  expect(floor.start).toBe(0)
  floor.advance(3_000)
  expect(floor.start).toBe(0)
  floor.committed(200)
  floor.advance(6_000)
  expect(floor.start).toBe(100)
  floor.advance(9_000)
  expect(floor.start).toBe(200)
})

test('begins at the beginning first and now and then, for one fetch', () => {
  const floor = createFloor(0)
  expect(floor.sweeping).toBe(true)
  floor.fetched()
  expect(floor.sweeping).toBe(false)
  floor.committed(100)
  floor.advance(3_000)
  floor.advance(6_000)
  expect(floor.start).toBe(100)
  floor.advance(20_000)
  expect(floor.start).toBe(0)
  floor.fetched()
  expect(floor.start).toBe(100)
})
