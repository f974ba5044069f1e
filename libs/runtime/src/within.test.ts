import { expect, test } from 'vitest'
import { within } from './within.ts'

test('a promise that is in time gives its value or its error, and another one the given value', async () => {
  expect(await within(Promise.resolve(1), 60_000, 'late')).toBe(1)
  await expect(within(Promise.reject(new Error('a fault')), 60_000, 'late')).rejects.toThrow('a fault')
  expect(await within(new Promise(() => undefined), 1, 'late')).toBe('late')
})
