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

// Goal (KEY-01): through rotations by schedule there is no moment at which a token names a key that is not in the key set,
// nor in a copy of it that may still be kept. Method: real keys in PostgreSQL, the bookkeeper's own chore, a busy worker and
// one that is seldom needed, an RP that asks for the key set as seldom as it may, and a clock that runs through three months.

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

test('keys turn by themselves every 30 days, and every token verifies with what an RP keeps', {
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

  // Around the turns every few minutes, else every day: the moments that matter are those.
  const turns = [29, 30, 59, 60, 89, 90].map((day) => START + day * DAY)
  const near = (ms: number) => turns.some((turn) => Math.abs(ms - turn) < 12 * STEP)
  let kept = await busy.jwks(ISSUER)
  for (let step = 0; nowMs < START + 92 * DAY; step++) {
    nowMs += near(nowMs) ? STEP : 4 * 3_600_000 - (step % 7) * STEP
    await rotate()
    await signAndVerify(busy, kept)
    if (step % 5 === 0) await signAndVerify(seldom, kept)
    // The worker that is busy has its keys anew; the RP renews its copy only now.
    if (near(nowMs)) nowMs += KEYRING_REFRESH_MS
    await signAndVerify(busy, kept)
    kept = await busy.jwks(ISSUER)
  }
  expect(kids.size).toBe(4)
  const keys = await store.find(ISSUER)
  expect(keys).toHaveLength(4)
  // Exactly as long as was asked for, and published a day before.
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
  // What left the key set has no private part any more; what is still in it has.
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
