import { randomBytes } from 'node:crypto'
import { createRotationJob } from '@curfew/bookkeeper'
import { LOGOUT_TOKEN_TYPE, logoutTokenClaims } from '@curfew/channels'
import type { IssuerName } from '@curfew/domain'
import { JWKS_MAX_AGE_MS, KEY_LEAD_MS, KEY_OVERLAP_MS, KEYRING_REFRESH_MS } from '@curfew/domain'
import { changeSigningKeys, openKeyStore } from '@curfew/ledger'
import { createLogoutTokenVerifier } from '@curfew/rp'
import { createKeyMaker, createKeyring } from '@curfew/tokens'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

// Goal (KEY-01): during scheduled rotations, every token names a key that is in the key set and in every copy that may be cached.
// Method: real keys in PostgreSQL, the bookkeeper's own job, a busy worker and an idle one, an RP that fetches the key set as
// rarely as it may, and a clock that runs through three months.

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const START = Date.UTC(2026, 10, 21)
const DAY = 86_400_000
const STEP = JWKS_MAX_AGE_MS - 1_000
const ISSUER = 'turning' as IssuerName
const iss = 'https://turning.example'

test('keys rotate every 30 days, and every token verifies with the key set that an RP keeps', {
  timeout: 60_000,
}, async () => {
  const { db } = database
  await db.query(
    "insert into issuers (name, iss, sid_supported, session_index, sla_within_ms, sla_objective, sla_window_days, defaults, revision) values ($1, $2, true, 'partial', 1, 0.5, 30, '{}', 0)",
    [ISSUER, iss],
  )
  let nowMs = START
  const now = () => new Date(nowMs)
  const maker = createKeyMaker({ masterKey: randomBytes(32) })
  const store = openKeyStore(db)
  const busy = createKeyring({ store, maker, now })
  const seldom = createKeyring({ store, maker, now })
  await busy.ensure(ISSUER, 'ES256')
  await changeSigningKeys(db, ISSUER, ({ schedule }) => schedule(30))
  const log = { isLevelEnabled: () => false, debug: ignore, info: ignore, warn: ignore, error: ignore }
  const { round: rotate } = createRotationJob({
    db,
    generateKey: (issuer, algorithm) => maker.generate(issuer, algorithm),
    now,
    log,
    stopping: new AbortController().signal,
  })

  const kids = new Set<string>()
  const signAndVerify = async (keyring: typeof busy, jwks: Awaited<ReturnType<typeof busy.jwks>>) => {
    const signer = await keyring.signer(ISSUER, 'ES256')
    kids.add(signer.kid)
    const claims = logoutTokenClaims(
      { sid: null, eventId: 'e', event: { iss, sub: 'alice', scope: 'subject' } } as never,
      { clientId: 'rp' as never, subject_claims: 'sub', session_required: false },
      { now: now(), jti: 'j' },
    )
    const verifier = createLogoutTokenVerifier({ issuer: iss, clientId: 'rp', jwks, now })
    const verified = await verifier.verify(await signer.sign(LOGOUT_TOKEN_TYPE, claims))
    expect([new Date(nowMs).toISOString(), signer.kid, verified.ok]).toEqual([
      new Date(nowMs).toISOString(),
      signer.kid,
      true,
    ])
  }

  // Steps of minutes around the rotations, which matter most, and of hours elsewhere.
  const rotations = [29, 30, 59, 60, 89, 90].map((day) => START + day * DAY)
  const near = (ms: number) => rotations.some((rotation) => Math.abs(ms - rotation) < 12 * STEP)
  let kept = await busy.jwks(ISSUER)
  for (let step = 0; nowMs < START + 92 * DAY; step++) {
    nowMs += near(nowMs) ? STEP : 4 * 3_600_000 - (step % 7) * STEP
    await rotate()
    await signAndVerify(busy, kept)
    if (step % 5 === 0) await signAndVerify(seldom, kept)
    // The busy worker has reloaded its keys. The RP renews its copy only now.
    if (near(nowMs)) nowMs += KEYRING_REFRESH_MS
    await signAndVerify(busy, kept)
    kept = await busy.jwks(ISSUER)
  }
  expect(kids.size).toBe(4)
  const keys = await store.find(ISSUER)
  expect(keys).toHaveLength(4)
  // Every key signs for the interval that was asked for, and is published a day before it signs.
  const days = keys.map(({ signsFrom, publishedAt }) => [
    Math.round((signsFrom.getTime() - START) / DAY),
    signsFrom.getTime() - publishedAt.getTime(),
  ])
  expect(days).toEqual([
    [0, 0],
    [30, KEY_LEAD_MS],
    [60, KEY_LEAD_MS],
    [90, KEY_LEAD_MS],
  ])
  // A key that left the key set has lost its private part. A key that is still in it has one.
  nowMs = (keys[3]?.signsFrom.getTime() ?? 0) + KEY_OVERLAP_MS
  await rotate()
  expect((await store.find(ISSUER)).map(({ sealedPrivateKey }) => sealedPrivateKey === '')).toEqual([
    true,
    true,
    true,
    false,
  ])
  const { rows } = await db.query("select action, credential from audit where action = 'key.rotated'")
  expect(rows).toEqual(Array(3).fill({ action: 'key.rotated', credential: 'bookkeeper' }))
})

function ignore(): undefined {
  return undefined
}
