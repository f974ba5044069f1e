import type { LogoutEvent } from '@curfew/domain'
import { ProblemError } from '@curfew/runtime'
import { expect, test, vi } from 'vitest'
import { limitPreviews } from './dry-run.ts'

// Goal: previews, which read all sessions of an issuer, are few at once and shared fairly between issuers.
// Method: previews that the test ends by hand.

const NOTHING = { basis: 'registered', subjects: 0, sessions: 0, byClient: [] } as const

test('previews of one issuer run one at a time, two may wait, and another issuer is not held up', async () => {
  const running: { iss: string; end: () => void }[] = []
  const preview = limitPreviews(async ({ iss }) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    running.push({ iss, end: resolve })
    await promise
    return NOTHING
  })
  const ask = (iss: string) =>
    preview({ iss } as LogoutEvent).catch((error: unknown) =>
      error instanceof ProblemError ? error.problem.status : error,
    )
  const ofB = Array.from({ length: 40 }, () => ask('b'))
  const refused = await Promise.all(ofB.slice(3))
  expect(new Set(refused)).toEqual(new Set([429]))
  const ofA = ask('a')
  await vi.waitFor(() => expect(running.map(({ iss }) => iss)).toEqual(['b', 'a']))
  for (let n = 0; n < 4; n++) {
    await vi.waitFor(() => expect(running.length).toBeGreaterThan(n))
    running[n]?.end()
  }
  expect(await Promise.all([ofA, ...ofB.slice(0, 3)])).toEqual(Array.from({ length: 4 }, () => NOTHING))
})
