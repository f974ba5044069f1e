import type { Issuer, IssuerName } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createSheets, type RevocationsClaims } from './sheets.ts'

// Goal: readers share answers, and no reader that was told of a logout gets an answer from before it.
// Method: a clock that stands still, and a feed in memory.

const ISSUER = {
  ...{ name: 'main' as IssuerName, iss: 'https://idp.example' as Issuer },
  cutoffs: { maxTokenTtlS: 3_600, widenToSubject: false },
}

function open() {
  let seq = 5
  let signed = 0
  const sheets = createSheets({
    state: async () => ({ seq, everybodyBefore: null, behindMs: 0 }),
    read: async ({ after }) =>
      [5, 6]
        .filter((each) => each > after && each <= seq)
        .map((each) => ({ seq: each, key: Buffer.alloc(16, each), before: 1 })),
    async sign(_, claims) {
      signed++
      return JSON.stringify(claims)
    },
    now: () => new Date(1_800_000_000_250),
  })
  const since = async (after: number, known?: number): Promise<RevocationsClaims> =>
    JSON.parse((await sheets.since(ISSUER, after, known))?.jws ?? 'null')
  return { sheets, since, logout: () => seq++, signed: () => signed }
}

test('readers that ask for the same get the same answer', async () => {
  const { since, signed } = open()
  const answers = await Promise.all([since(5), since(5), since(4)])
  expect(answers.map(({ entries }) => entries.length)).toEqual([0, 0, 1])
  expect(signed()).toBe(2)
})

test('a reader that waited for a logout gets it, although an answer from before is kept', async () => {
  const { since, logout } = open()
  expect(await since(5)).toMatchObject({ seq: 5, entries: [] })
  logout()
  expect(await since(5, 6)).toMatchObject({ seq: 6, entries: [[expect.any(String), 1]] })
})

test('an answer says after which number it begins, how long tokens live, and its time to the millisecond', async () => {
  const { sheets, since } = open()
  expect(await since(5)).toMatchObject({ after: 5, max_token_ttl: 3_600, iat: 1_800_000_000.25 })
  expect(JSON.parse((await sheets.snapshot(ISSUER)).jws)).toMatchObject({ after: null })
  expect(await since(9)).toBeNull()
})
