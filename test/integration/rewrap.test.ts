import { randomBytes } from 'node:crypto'
import {
  type ClientId,
  type Issuer,
  type IssuerName,
  SIGNING_ALGORITHMS,
  type Sid,
  type Subject,
} from '@curfew/domain'
import {
  applySessions,
  changeSigningKeys,
  findRelyingParty,
  findSigningKeys,
  listSealed,
  openKeyStore,
  openReceiptLog,
  putRelyingParties,
  replaceSealed,
} from '@curfew/ledger'
import { rewrapSecrets } from '@curfew/standalone'
import {
  type ClientKeySealer,
  createAuditSecretSealer,
  createClientKeySealer,
  createKeyMaker,
  createKeyring,
  createLogKeeper,
  createSessionTokenSealer,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { register, registerParty } from './ledger-support.ts'

// Goal: the master key can be replaced while all services run, and a run that is interrupted loses nothing: a service with both
// keys can open every secret at any time. Method: real secrets in PostgreSQL, and a crash after a batch.

const ISSUER = 'main' as IssuerName
const ISS = 'https://idp.example' as Issuer
const [OLD, NEW] = [randomBytes(32), randomBytes(32)]
const PEM = '-----BEGIN PRIVATE KEY-----\nhunter2\n'
const CLIENTS = 230
/** A webhook has one secret, and a second while the first is rotated. */
const WEBHOOK_SECRETS = 2
/** One key signs, the other hashes subjects. */
const LOG_KEYS = 2
/** The secrets of the audits of one client. */
const AUDIT_SECRETS = 1
/** The present secret of one client, and the one before. */
const CONFIRMATION_SECRETS = 2

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  const { db } = database
  await register(db, 0)
  const maker = createKeyMaker({ masterKey: OLD })
  const keyring = createKeyring({ store: openKeyStore(db), maker, now: () => new Date() })
  for (const algorithm of SIGNING_ALGORITHMS) await keyring.ensure(ISSUER, algorithm)
  const webhooks = createWebhookSecretSealer(OLD)
  await db.query({
    text: `insert into webhooks (name, url, allowed_networks, enabled, sealed_secret, sealed_previous_secret, previous_secret_until)
           values ('siem', 'https://siem.example', '{}', true, $1, $2, now())`,
    values: [await webhooks.seal('now', 'siem'), await webhooks.seal('before', 'siem')],
  })
  await openReceiptLog(db, () => createLogKeeper(OLD).newLog('log.example'))
  const sealer = createClientKeySealer(OLD)
  for (let n = 0; n < CLIENTS; n++) {
    const owner = { issuer: ISSUER, clientId: `client ${n}` as ClientId }
    const tls = { client_certificate: 'a certificate', sealed_client_key: await sealer.seal(PEM, owner) }
    // The first client has a secret of confirmations, and a second while the first is rotated.
    const confirmation = n > 0 ? {} : { confirmation: await confirmationSecrets(sealer, owner) }
    await registerParty(db, owner.clientId, { tls, ...confirmation })
  }
  const audited = { issuer: ISSUER, clientId: 'client 0' as ClientId }
  await db.query({
    text: `insert into logout_audit_setups (issuer, client_id, settings, sealed_secrets) values ($1, $2, '{}', $3)`,
    values: [
      ISSUER,
      audited.clientId,
      await createAuditSecretSealer(OLD).seal({ password: 'hunter2' }, audited),
    ],
  })
})

async function confirmationSecrets(sealer: ClientKeySealer, owner: Parameters<ClientKeySealer['seal']>[1]) {
  const [sealed_secret, sealed_previous_secret] = [
    await sealer.seal('now', owner),
    await sealer.seal('before', owner),
  ]
  return { sealed_secret, sealed_previous_secret, previous_secret_until: '2026-11-21T12:00:00Z' }
}

afterEach(() => database.drop())

/** Opens every secret with these master keys. @returns how many could not be opened. */
async function closedTo(masterKey: Uint8Array, oldMasterKey: Uint8Array | null): Promise<number> {
  const { db } = database
  const maker = createKeyMaker({ masterKey, oldMasterKey })
  const sealer = createClientKeySealer(masterKey, oldMasterKey)
  const keys = await findSigningKeys(db, ISSUER)
  const { rows } = await db.query<{ id: ClientId; sealed: string; rest: unknown }>(
    "select client_id as id, settings #>> '{tls,sealed_client_key}' as sealed, settings #> '{tls,client_certificate}' as rest from relying_parties",
  )
  expect([keys.length, rows.length]).toEqual([SIGNING_ALGORITHMS.length, CLIENTS])
  expect(new Set(rows.map(({ rest }) => rest))).toEqual(new Set(['a certificate']))
  const webhooks = createWebhookSecretSealer(masterKey, oldMasterKey)
  const [siem] = (
    await db.query<{ now: string; before: string }>(
      'select sealed_secret as now, sealed_previous_secret as before from webhooks',
    )
  ).rows
  const [confirmed] = (
    await db.query<{ id: ClientId; now: string; before: string }>(
      `select client_id as id, settings #>> '{confirmation,sealed_secret}' as now,
              settings #>> '{confirmation,sealed_previous_secret}' as before
         from relying_parties where settings ? 'confirmation'`,
    )
  ).rows
  const owner = { issuer: ISSUER, clientId: confirmed?.id ?? ('' as ClientId) }
  const log = await openReceiptLog(db, () => Promise.reject(new Error('the log is gone')))
  const keeper = createLogKeeper(masterKey, oldMasterKey)
  const [setup] = (
    await db.query<{ id: ClientId; sealed: string }>(
      'select client_id as id, sealed_secrets as sealed from logout_audit_setups',
    )
  ).rows
  const audits = createAuditSecretSealer(masterKey, oldMasterKey)
  const opened = await Promise.allSettled([
    webhooks.open(siem?.now ?? '', 'siem').then((secret) => expect(secret).toBe('now')),
    webhooks.open(siem?.before ?? '', 'siem').then((secret) => expect(secret).toBe('before')),
    sealer.open(confirmed?.now ?? '', owner).then((secret) => expect(secret).toBe('now')),
    sealer.open(confirmed?.before ?? '', owner).then((secret) => expect(secret).toBe('before')),
    audits
      .open(setup?.sealed ?? '', { issuer: ISSUER, clientId: setup?.id ?? ('' as ClientId) })
      .then((secrets) => expect(secrets).toEqual({ password: 'hunter2' })),
    keeper.signer(log),
    keeper.subjectHash(log),
    ...keys.map((key) => maker.open(key)),
    ...rows.map(async ({ id, sealed }) =>
      expect(await sealer.open(sealed, { issuer: ISSUER, clientId: id })).toBe(PEM),
    ),
  ])
  return opened.filter(({ status }) => status === 'rejected').length
}

test('every secret is sealed with the new master key, even if the first run crashes', async () => {
  const all =
    CLIENTS + SIGNING_ALGORITHMS.length + WEBHOOK_SECRETS + LOG_KEYS + CONFIRMATION_SECRETS + AUDIT_SECRETS
  const crash = () => {
    throw new Error('crashed')
  }
  await expect(rewrapSecrets(database.url, { current: NEW, old: OLD }, crash)).rejects.toThrow('crashed')
  const left = await closedTo(NEW, null)
  expect(left).toBe(all - 100)
  expect(await closedTo(NEW, OLD)).toBe(0)
  // A service that is not restarted yet has the two keys the other way round.
  expect(await closedTo(OLD, NEW)).toBe(0)

  const seen: number[] = []
  const done = await rewrapSecrets(database.url, { current: NEW, old: OLD }, (progress) =>
    seen.push(progress.seen),
  )
  expect(done).toEqual({ seen: all, rewrapped: all - 100, unreadable: [] })
  expect(seen).toEqual([100, 200, all, all])
  expect(await closedTo(NEW, null)).toBe(0)
  expect(await closedTo(OLD, null)).toBe(all)
  expect(await rewrapSecrets(database.url, { current: NEW, old: OLD }, () => undefined)).toMatchObject({
    rewrapped: 0,
  })
})

test('the tokens of all sessions are sealed with the new master key', async () => {
  const { db } = database
  const [before, after] = [createSessionTokenSealer(OLD), createSessionTokenSealer(NEW)]
  const owner = (n: number) => ({ iss: ISS, sid: `sid ${n}` as Sid, clientId: 'client 0' as ClientId })
  const [startedAt, count] = [new Date(), 250]
  const starts = await Promise.all(
    Array.from({ length: count }, async (_, n) => ({
      ...{ ...owner(n), sub: `user ${n % 7}` as Subject, device: null, startedAt, startedStated: true },
      ...{ acceptedAt: startedAt, expiresAt: null },
      ...(n > 0 && { sealedTokens: await before.seal([{ token: `token ${n}`, hint: null }], owner(n)) }),
    })),
  )
  await applySessions(db, { ends: [], starts })
  const { unreadable } = await rewrapSecrets(database.url, { current: NEW, old: OLD })
  expect(unreadable).toEqual([])
  const { rows } = await db.query<{ sid: string; sealed: string | null }>(
    'select sid, sealed_tokens as sealed from sessions',
  )
  expect(rows).toHaveLength(count)
  for (const { sid, sealed } of rows) {
    const n = Number(sid.slice('sid '.length))
    if (n === 0) expect(sealed).toBeNull()
    else expect(await after.open(sealed ?? '', owner(n))).toEqual([{ token: `token ${n}`, hint: null }])
  }
  const lost = createSessionTokenSealer(randomBytes(32))
  await db.query('update sessions set sealed_tokens = $1 where sid = $2', [
    await lost.seal([{ token: 't', hint: null }], owner(1)),
    'sid 1',
  ])
  expect((await rewrapSecrets(database.url, { current: NEW, old: OLD })).unreadable).toEqual(['/v1/sessions'])
})

test('a secret that neither master key opens is reported, and all others are sealed', async () => {
  const lost = await createKeyMaker({ masterKey: randomBytes(32) }).generate(ISSUER, 'ES256')
  const now = new Date()
  await changeSigningKeys(database.db, ISSUER, ({ insert }) =>
    insert(lost, { publishedAt: now, signsFrom: now }),
  )
  const { rewrapped, unreadable } = await rewrapSecrets(
    database.url,
    { current: NEW, old: OLD },
    () => undefined,
  )
  expect(unreadable).toEqual([`/v1/issuers/${ISSUER}/keys/${lost.kid}`])
  expect(rewrapped).toBe(
    CLIENTS + SIGNING_ALGORITHMS.length + WEBHOOK_SECRETS + LOG_KEYS + CONFIRMATION_SECRETS + AUDIT_SECRETS,
  )
})

test('a secret that changes after it was read is not overwritten', async () => {
  const { db } = database
  const owner = { issuer: ISSUER, clientId: 'client 0' as ClientId }
  // The secrets of audits come first.
  const [before, read] = await listSealed(db, { after: null, limit: 2 })
  if (before === undefined || read === undefined) throw new Error('expected a sealed secret')
  expect(read).toMatchObject({ kind: 'client_key', id: 'client 0' })
  const changed = await createClientKeySealer(NEW).seal('another key', owner)
  const tls = { client_certificate: 'b', sealed_client_key: changed }
  await registerParty(db, owner.clientId, { tls })
  expect(await replaceSealed(db, read, 'a secret sealed from the old value')).toBe(false)
  expect(await listSealed(db, { after: before, limit: 1 })).toEqual([{ ...read, sealed: changed }])
})

test('a registration that was read before the run cannot overwrite a secret of the run', async () => {
  const { db } = database
  const before = await findRelyingParty(db, { issuer: ISSUER, clientId: 'client 1' })
  if (before === null) throw new Error('expected a registration')
  await rewrapSecrets(database.url, { current: NEW, old: OLD }, () => undefined)
  // The write would restore a key that is sealed with the old master key, after the run replaced the last one.
  const { revision, createdAt: _, updatedAt: __, ...draft } = before
  const audit = () => ({ credential: 'test', action: 'test', object: '/', detail: {} })
  const put = { issuer: before.issuer, drafts: [{ ...draft, clientName: 'New' }], audit }
  const expected = new Map([[before.clientId as string, revision]])
  expect(await putRelyingParties(db, { ...put, expected })).toEqual({ ok: false, conflict: 'stale' })
  expect(await closedTo(NEW, null)).toBe(0)
})
