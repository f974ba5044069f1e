import { createSlaJobs } from '@curfew/bookkeeper'
import type { ClientId, InFlightDelivery } from '@curfew/domain'
import { planEvents, projectJournal, projectSla, readRegistry, settleDeliveries } from '@curfew/ledger'
import { createMetrics, type Log } from '@curfew/runtime'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, ISSUER, openCurfew } from '../support/curfew.ts'
import { bindingsOf, newEvent, newLease, newWorker, planFor, settledAs } from './ledger-support.ts'

// Goal: operators are paged while a relying party is unavailable, and not minutes later; and the alert ends soon after its cause.
// Method: an hour of logouts at two relying parties, an outage of one of them for three minutes, and its recovery. The statements,
// the server and the jobs are real. The test drives their clock.

const START_MS = Date.parse('2026-11-21T12:00:00.000Z')
const MINUTE_MS = 60_000
/** The promise of an issuer, by default: 99.9 % within this time. */
const WITHIN_MS = 5_000
const ALLOWED_SHARE = 0.001
const PAGE_RATE = 14.4
/** The pause of the job that measures burn rates. */
const PAUSE_MS = 5_000
/** A delivery is known as overdue at most this long after its promise has passed. */
const KNOWN_MS = 15_000
const OUTAGE_MS = START_MS + 60 * MINUTE_MS
const RECOVERY_MS = OUTAGE_MS + 3 * MINUTE_MS
const SILENT: Log = {
  isLevelEnabled: () => false,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

let nowMs = START_MS
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, now: () => new Date(nowMs) })
  for (const client of ['mail', 'wiki'])
    await curfew.client.putRelyingParty(ISSUER, client, {
      backchannel_logout_uri: `https://${client}.example/logout`,
    })
})
afterAll(() => curfew.stop())

/** The events themselves, as opposed to the figures of Curfew about them. */
interface World {
  /** The times at which logouts were accepted. */
  readonly accepted: number[]
  /** The deliveries that the unavailable relying party has yet to acknowledge. */
  unanswered: InFlightDelivery[]
}

async function openWorld() {
  const world: World = { accepted: [], unanswered: [] }
  const workerId = await newWorker(curfew.db)
  const { revision, ...registry } = await readRegistry(curfew.db)
  const isAt = (client: string) => (delivery: InFlightDelivery) =>
    registry.bindings.get(delivery.bindingId)?.clientId === (client as ClientId)
  const settle = (deliveries: readonly InFlightDelivery[], atMs: number) =>
    settleDeliveries(curfew.db, {
      batch: deliveries.map((delivery) => settledAs(delivery)),
      workerId,
      now: new Date(atMs),
    })
  return {
    world,
    async logOut(times: number, atMs: number): Promise<void> {
      const at = new Date(atMs)
      const batch = Array.from({ length: times }, () =>
        planFor({ ...newEvent(), acceptedAt: at }, bindingsOf({ revision, ...registry })),
      )
      await planEvents(curfew.db, { batch, lease: newLease(workerId), registryRevision: revision, now: at })
      const deliveries = batch.flatMap((planned) => planned.deliveries.map(({ delivery }) => delivery))
      const isDown = atMs >= OUTAGE_MS && atMs < RECOVERY_MS
      await settle(isDown ? deliveries.filter(isAt('mail')) : deliveries, atMs + 50)
      if (isDown) world.unanswered.push(...deliveries.filter(isAt('wiki')))
      world.accepted.push(...Array.from({ length: times }, () => atMs))
    },
    async recover(atMs: number): Promise<void> {
      await settle(world.unanswered, atMs)
      world.unanswered = []
    },
  }
}

/** Whether the budget burns fast enough for a page, by the times of acceptance alone. The outage must still last. */
function isBurning({ accepted }: World, atMs: number): boolean {
  const within = (windowMs: number) => {
    const due = accepted.filter((ms) => ms + WITHIN_MS < atMs && ms + WITHIN_MS >= atMs - windowMs)
    const broken = due.filter((ms) => ms >= OUTAGE_MS).length
    return broken >= PAGE_RATE * ALLOWED_SHARE * 2 * due.length && broken >= 10
  }
  return within(60 * MINUTE_MS) && within(5 * MINUTE_MS)
}

test('an outage of three minutes is paged while it lasts, and the burn ends within its short window', async () => {
  const { world, logOut, recover } = await openWorld()
  for (let ms = START_MS; ms < OUTAGE_MS; ms += 20_000) await logOut(4, ms)
  while ((await projectJournal(curfew.db, { limit: 40, projectors: [projectSla] })) !== 0);

  const metrics = createMetrics()
  const jobs = createSlaJobs({ db: curfew.db, now: () => new Date(nowMs), log: SILENT, metrics })
  const sampleOf = (body: string, sample: string) =>
    Number(
      body
        .split('\n')
        .find((line) => line.startsWith(sample))
        ?.split(' ')[1],
    )
  const pages = async () => {
    const { rows } = await curfew.db.query<{ what: string }>(
      "select data ->> 'what' as what from notifications where data ->> 'severity' = 'page'",
    )
    return rows
  }
  const first = { overdue: 0, burning: 0, page: 0, calm: 0 }
  const note = (name: keyof typeof first, happened: boolean) => {
    if (happened && first[name] === 0) first[name] = nowMs
  }
  // Logouts are accepted at other times than ticks and rounds begin.
  for (let ms = OUTAGE_MS + 1_700; ms < RECOVERY_MS + 6 * MINUTE_MS; ms += PAUSE_MS) {
    if (ms >= RECOVERY_MS && world.unanswered.length > 0) await recover(ms)
    await logOut(1, ms)
    nowMs = ms + 1_100
    while ((await projectJournal(curfew.db, { limit: 40, projectors: [projectSla] })) !== 0);
    for (const job of jobs) await job.round()
    const { body } = await metrics.expose()
    const overdue = sampleOf(body, 'curfew_sla_overdue{issuer="main"}')
    note('overdue', overdue > 0)
    note('burning', nowMs < RECOVERY_MS && isBurning(world, nowMs))
    if (first.page === 0) note('page', (await pages()).length > 0)
    if (ms >= RECOVERY_MS) {
      expect(overdue).toBe(0)
      note('calm', sampleOf(body, 'curfew_sla_burn_rate{issuer="main",window="5m"}') === 0)
    }
    if (ms === OUTAGE_MS + 1_700 + 30 * PAUSE_MS) {
      const { overdue: reported, at_risk: risk } = await curfew.client.getSla({ client_id: 'wiki' })
      expect([reported, risk.overdue]).toEqual([overdue, overdue])
    }
  }
  expect(first.overdue).toBeGreaterThan(OUTAGE_MS)
  expect(first.overdue - (OUTAGE_MS + 1_700 + WITHIN_MS)).toBeLessThanOrEqual(KNOWN_MS)
  expect(first.burning).toBeGreaterThan(OUTAGE_MS + MINUTE_MS)
  expect(first.page - first.burning).toBeLessThanOrEqual(KNOWN_MS + PAUSE_MS)
  expect(first.page).toBeLessThan(RECOVERY_MS)
  expect(first.calm).toBeGreaterThan(RECOVERY_MS)
  expect(first.calm - (RECOVERY_MS + WITHIN_MS + 5 * MINUTE_MS)).toBeLessThanOrEqual(KNOWN_MS)
  const [page, ...others] = await pages()
  expect(others).toEqual([])
  expect(page?.what).toMatch(/ over the last 1h, and .* over the last 5m\. \d\d deliveries are overdue now\./)
}, 300_000)
