import { expect, test } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: a worker that may not make attempts takes up no share of a relying party's concurrency.
// Method: one worker whose clock is two minutes ahead, one whose clock is right, and relying parties that allow one attempt at
// a time over all workers.

test('a worker with a wrong clock does not keep another worker from relying parties with a concurrency limit', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  const parties = await Promise.all(
    Array.from({ length: 6 }, (_, n) =>
      openRelyingParty(curfew, { clientId: `rp-${n}`, curfew: { concurrency: 1 } }),
    ),
  )
  await curfew.startWorker({ leaseMs: 2_000, wallMs: () => Date.now() + 120_000 })
  await curfew.startWorker({ leaseMs: 2_000 })
  await eventually(async () => {
    const { rows } = await curfew.db.query(
      'select count(*) as workers from workers where seen_at > (select max(started_at) from workers)',
    )
    expect(rows).toEqual([{ workers: 2 }])
  })
  await curfew.client.postLogoutEvents(parties.map((_, n) => ({ iss: ISS, sub: `person-${n}` })))
  for (const party of parties) await party.told(6)
  for (const party of parties) await party.close()
}, 30_000)
