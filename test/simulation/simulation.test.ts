import { describe, expect, test } from 'vitest'
import { createRandom } from './random.ts'
import { simulate } from './run.ts'
import { inVirtualTime } from './virtual-time.ts'

// Goal: whatever goes wrong around it, and whenever, delivery keeps its promises (see invariants.ts).
// Method: the real service on a memory event log and a memory ledger, in virtual time, from seeds. More: npm run simulate.

const SEEDS = 1_200
const AT_ONCE = 100

describe('every seed', () => {
  test.each(Array.from({ length: SEEDS / AT_ONCE }, (_, index) => index * AT_ONCE + 1))(
    `holds what must hold, %i and the ${AT_ONCE - 1} after it`,
    // Outages last for an hour of virtual time, which takes seconds of real time for some seeds.
    { timeout: 180_000 },
    async (first) => {
      for (let seed = first; seed < first + AT_ONCE; seed++) {
        const { violations } = await simulate(seed)
        expect(violations, `npm run simulate -- --seed ${seed} --verbose`).toEqual([])
      }
    },
  )
})

describe('a run', () => {
  test('is the same each time that its seed is run, and no other', async () => {
    const digests = new Set<string>()
    const seeds = Array.from({ length: 40 }, (_, index) => 7_000 + index)
    for (const seed of seeds) {
      const { digest } = await simulate(seed)
      expect((await simulate(seed)).digest, `seed ${seed}`).toBe(digest)
      digests.add(digest)
    }
    expect(digests.size).toBe(seeds.length)
  })

  test('leaves time as it was', async () => {
    const before = [globalThis.setTimeout, globalThis.Date, performance.now, Math.random]
    await simulate(1)
    expect([globalThis.setTimeout, globalThis.Date, performance.now, Math.random]).toEqual(before)
  })
})

test('virtual time runs timers in their order, and hours in no time', async () => {
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
