import { expect, test } from 'vitest'
import { createVerifiedTokens, type VerifiedToken } from './verified-tokens.ts'

// Goal: a kept verification never outlives the token or five minutes, and the memory is bounded.
// Method: a clock that the test sets.

const START_S = 1_000_000
function open(bytesMax = 1_000_000) {
  let nowS = START_S
  const tokens = createVerifiedTokens(bytesMax, { clockSkewS: 5, nowMs: () => nowS * 1_000 })
  const at = (second: number) => {
    nowS = START_S + second
  }
  return { tokens, at }
}
const until = (second: number, sub = 'alice'): VerifiedToken => ({
  claims: { iss: 'https://idp.example', sub },
  exp: START_S + second,
  headers: {},
})

test('a verification is kept until the token has expired, with the tolerated clock difference', () => {
  const { tokens, at } = open()
  tokens.set('a.b.c', until(60))
  at(64)
  expect(tokens.get('a.b.c')).toEqual(until(60))
  expect(tokens.get('a.b.d')).toBeNull()
  at(65)
  expect(tokens.get('a.b.c')).toBeNull()
  expect(tokens.count).toBe(0)
})

test('a long-lived token is verified again after five minutes, because its key may be withdrawn', () => {
  const { tokens, at } = open()
  tokens.set('a.b.c', until(86_400))
  at(299)
  expect(tokens.get('a.b.c')).not.toBeNull()
  at(300)
  expect(tokens.get('a.b.c')).toBeNull()
})

test('beyond the memory the least recently used token is dropped, and a large one counts for more', () => {
  const { tokens } = open(3_500)
  for (const name of ['a', 'b', 'c', 'd']) tokens.set(name, until(60))
  expect(tokens.count).toBe(4)
  tokens.get('a')
  tokens.set('e', until(60))
  expect([...'abcde'].map((name) => tokens.get(name) !== null)).toEqual([true, false, true, true, true])
  tokens.set('large', until(60, 'x'.repeat(1_200)))
  expect(tokens.count).toBe(1)
  for (let n = 0; n < 10_000; n++) tokens.set('same', until(60))
  expect(tokens.count).toBe(1)
})
