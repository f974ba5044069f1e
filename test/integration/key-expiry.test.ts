import type { IssuerName } from '@curfew/domain'
import { findSigningKeys, noticeExpiringKeys } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISSUER, openCurfew } from '../support/curfew.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'

// Goal: operators hear, once and in time, that another key is about to replace a signing key, which the IdP must publish first.
// Method: the statement with a given time, and a real bookkeeper with a webhook.

const HOUR_MS = 3_600_000
let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({ workers: 0 })
})
afterEach(() => curfew.stop())

async function notified() {
  const { rows } = await curfew.db.query<{ issuer: string; data: unknown }>(
    "select issuer, data from notifications where type = 'key.expiring' order by occurred_at",
  )
  return rows
}

test('a key that another key replaces soon is announced once', async () => {
  const first = await curfew.client.addKey(ISSUER, { alg: 'ES256' })
  await curfew.client.addKey(ISSUER, { alg: 'RS256' })
  await curfew.client.rotateKeys(ISSUER, { alg: 'ES256', lead_s: 48 * 3_600 })
  const keys = await findSigningKeys(curfew.db, ISSUER as IssuerName)
  const next = keys.find(({ algorithm, kid }) => algorithm === 'ES256' && kid !== first.kid)
  if (next === undefined) throw new Error('no key follows')
  const at = (ms: number) => ({ now: new Date(next.signsFrom.getTime() - ms), withinMs: 24 * HOUR_MS })

  expect(await noticeExpiringKeys(curfew.db, at(25 * HOUR_MS))).toBe(0)
  const looks = await Promise.all(
    [23, 23, 23].map((hours) => noticeExpiringKeys(curfew.db, at(hours * HOUR_MS))),
  )
  expect(looks.reduce((sum, count) => sum + count)).toBe(1)
  expect(await noticeExpiringKeys(curfew.db, at(HOUR_MS))).toBe(0)
  expect(await notified()).toEqual([
    {
      issuer: ISSUER,
      data: {
        issuer: ISSUER,
        algorithm: 'ES256',
        kid: first.kid,
        next_kid: next.kid,
        signs_until: next.signsFrom.toISOString(),
      },
    },
  ])
  // The next key has taken over, and no key follows it.
  expect(await noticeExpiringKeys(curfew.db, at(-HOUR_MS))).toBe(0)
})

test('a key is not announced after its successor was retired', async () => {
  await curfew.client.addKey(ISSUER, { alg: 'ES256' })
  await curfew.client.rotateKeys(ISSUER, { alg: 'ES256' })
  const { items } = await curfew.client.listKeys(ISSUER)
  await curfew.client.retireKey(ISSUER, items.find(({ state }) => state === 'next')?.kid ?? '')
  expect(await noticeExpiringKeys(curfew.db, { now: new Date(), withinMs: 48 * HOUR_MS })).toBe(0)
})

test('a webhook receives the announcement', async () => {
  await using hook = await openWebhookReceiver()
  await curfew.call('PUT', '/v1/webhooks/on-call', { url: hook.url, types: ['key.expiring'] })
  await curfew.client.addKey(ISSUER, { alg: 'ES256' })
  await curfew.client.rotateKeys(ISSUER, { alg: 'ES256', lead_s: 3_600 })
  const bookkeeper = await curfew.startBookkeeper()
  const [first] = await hook.told(1)
  expect(first).toMatchObject({ type: 'key.expiring', data: { issuer: ISSUER, algorithm: 'ES256' } })
  await eventually(() => expect(hook.received).toHaveLength(1))
  await bookkeeper.stop()
})
