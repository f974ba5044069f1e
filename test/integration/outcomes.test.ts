import { EventLogUnavailableError } from '@curfew/domain'
import { publishAcknowledgements } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an acknowledgement is published at least once, whatever fails between the ledger and who is told, and as a rule not
// twice; and not before nothing older can turn up any more. Method: the real statements over a real pipeline, and a listener
// that fails and is slow as a test wishes.

let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew()
  await published()
})
afterEach(() => curfew.stop())

/** Publishes until nothing is left, so many milliseconds of the ledger's time at once. */
async function published({ spanMs = 3_600_000, lagMs = 0 } = {}): Promise<readonly string[]> {
  const told: string[] = []
  const publish = async (records: readonly { readonly sub: string | null }[]) =>
    void told.push(...records.map(({ sub }) => String(sub)))
  while ((await publishAcknowledgements(curfew.db, { spanMs, lagMs, publish }))?.more === true);
  return told
}

/** Logs so many users out, and waits for the ledger to have it. */
async function logOut(...subs: readonly string[]): Promise<void> {
  const events = await curfew.client.postLogoutEvents(subs.map((sub) => ({ iss: ISS, sub })))
  for (const { id } of events) {
    const { status } = await curfew.client.getLogoutEvent(id ?? '', { wait: 20 })
    expect(status).toBe('settled')
  }
}

test('each once, however small the spans', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a', 'b', 'c')
  expect([...(await published({ spanMs: 50 }))].toSorted()).toEqual(['a', 'b', 'c'])
  await logOut('d')
  expect(await published()).toEqual(['d'])
  expect(await published()).toEqual([])
})

test('again where it failed, and by one at a time', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a')
  const away = new EventLogUnavailableError('away')
  const request = { spanMs: 3_600_000, lagMs: 0 }
  const failing = publishAcknowledgements(curfew.db, { ...request, publish: () => Promise.reject(away) })
  await expect(failing).rejects.toBe(away)
  const { promise, resolve } = Promise.withResolvers<void>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const slow = publishAcknowledgements(curfew.db, {
    ...request,
    publish() {
      begin()
      return promise
    },
  })
  await begun
  const meanwhile = publishAcknowledgements(curfew.db, {
    ...request,
    publish: () => Promise.reject(new Error('told twice')),
  })
  expect(await meanwhile).toBeNull()
  resolve()
  expect(await slow).toMatchObject({ published: 1 })
  expect(await published()).toEqual([])
})

test('what is being written while others are published is not left out', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a')
  expect(await published({ lagMs: 60_000 })).toEqual([])
  await eventually(async () => expect(await published({ lagMs: 1_000 })).toEqual(['a']))
})

test('what was not acknowledged is no acknowledgement', async () => {
  await using shop = await openRelyingParty(curfew, { clientId: 'shop' })
  shop.behave({ status: 400 })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'a' })
  await shop.told(1)
  await eventually(async () => expect((await curfew.db.query('select from attempts')).rows).toHaveLength(1))
  expect(await published()).toEqual([])
})
