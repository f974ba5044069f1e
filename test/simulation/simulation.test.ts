import { describe, expect, test } from 'vitest'
import { createRandom } from './random.ts'
import { simulate } from './run.ts'
import { inVirtualTime } from './virtual-time.ts'

// Goal: delivery keeps its promises (see invariants.ts) whatever fails around it, and whenever.
// Method: the real service with an event log and a ledger in memory, in virtual time, from seeds. For more seeds: npm run
// simulate.

const SEEDS = 300
const SEEDS_PER_TEST = 100

describe('every seed', () => {
  test.each(Array.from({ length: SEEDS / SEEDS_PER_TEST }, (_, index) => index * SEEDS_PER_TEST + 1))(
    `satisfies the invariants: seed %i and the ${SEEDS_PER_TEST - 1} after it`,
    // An outage lasts up to an hour of virtual time, which takes seconds of real time for some seeds.
    { timeout: 180_000 },
    async (first) => {
      for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) {
        const { violations } = await simulate(seed)
        expect(violations, `npm run simulate -- --seed ${seed} --verbose`).toEqual([])
      }
    },
  )
})

describe('a run', () => {
  test('is the same for the same seed, and different for another seed', { timeout: 120_000 }, async () => {
    const digests = new Set<string>()
    const seeds = Array.from({ length: 20 }, (_, index) => 7_000 + index)
    for (const seed of seeds) {
      const { digest } = await simulate(seed)
      expect((await simulate(seed)).digest, `seed ${seed}`).toBe(digest)
      digests.add(digest)
    }
    expect(digests.size).toBe(seeds.length)
  })

  test('restores real time', async () => {
    const before = [globalThis.setTimeout, globalThis.Date, performance.now, Math.random]
    await simulate(1)
    expect([globalThis.setTimeout, globalThis.Date, performance.now, Math.random]).toEqual(before)
  })
})

test('virtual time runs timers in order, and skips waiting time', async () => {
  const seen: string[] = []
  await inVirtualTime(createRandom(1).next, async (time) => {
    const startedMs = Date.now()
    const note = (what: string) => () => void seen.push(`${what} ${Date.now() - startedMs}`)
    setTimeout(note('late'), 3_600_000)
    setTimeout(note('second'), 5)
    setTimeout(note('third'), 5)
    clearTimeout(setTimeout(note('never'), 1))
    setImmediate(note('first'))
    void time.sleep(1_000).then(note('slept'))
    expect(await time.run(() => seen.length === 5, 7_200_000)).toBe(true)
    expect(await time.run(() => false, 10)).toBe(false)
  })
  expect(seen).toEqual(['first 0', 'second 5', 'third 5', 'slept 1000', 'late 3600000'])
})
