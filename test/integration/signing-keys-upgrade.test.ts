import type { IssuerName } from '@curfew/domain'
import { changeSigningKeys, findSigningKeys, migrate, openKeyStore } from '@curfew/ledger'
import { createKeyMaker, createKeyring } from '@curfew/tokens'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { migrateUpTo } from '../support/migrations.ts'

// Goal: keys that were there before keys had a life sign on and stay published, and can be rotated. Method: the schema as it
// was, a row as that release wrote it, then the migration.

const ISSUER = 'main' as IssuerName
const AT = new Date('2026-01-02T03:04:05.678Z')

test('a key of before signs on, is published, and is followed by the next', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  await migrateUpTo(db, 'signing_keys')
  const maker = createKeyMaker({ masterKey: new Uint8Array(32) })
  await db.query("insert into issuers values ('main', 'https://idp.example', 1, 0.5, '{}', 0)")
  const before = await maker.generate(ISSUER, 'ES256')
  await db.query({
    text: `insert into signing_keys (kid, issuer, algorithm, public_jwk, sealed_private_key, created_at)
           values ($1, $2, $3, $4, $5, $6)`,
    values: [before.kid, ISSUER, 'ES256', JSON.stringify(before.publicJwk), before.sealedPrivateKey, AT],
  })
  await migrate(db)

  const store = openKeyStore(db)
  const keyring = createKeyring({ store, maker, now: () => new Date() })
  expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(before.kid)
  expect((await keyring.jwks(ISSUER)).keys.map(({ kid }) => kid)).toEqual([before.kid])
  const life = { publishedAt: AT, signsFrom: AT, retiredAt: null, withdrawnAt: null }
  expect(await findSigningKeys(db, ISSUER)).toEqual([{ ...before, ...life, createdAt: AT }])

  const next = await maker.generate(ISSUER, 'ES256')
  const now = new Date()
  await changeSigningKeys(db, ISSUER, ({ insert }) => insert(next, { publishedAt: now, signsFrom: now }))
  const anew = createKeyring({ store, maker, now: () => new Date() })
  expect((await anew.signer(ISSUER, 'ES256')).kid).toBe(next.kid)
})
