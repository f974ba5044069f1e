import { EventLogUnavailableError } from '@curfew/domain'
import { publishAcknowledgements } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an acknowledgement is published at least once, whatever fails between the ledger and the listener, and usually only once.
// It is published only when no older one can still appear.
// Method: the real statements over a real pipeline, and a listener that fails or is slow on demand.

let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew()
  await published()
})
afterEach(() => curfew.stop())

/** Publishes everything that is left, `spanMs` milliseconds of the ledger's time at once. @returns the subjects. */
async function published({ spanMs = 3_600_000, lagMs = 0 } = {}): Promise<readonly string[]> {
  const subjects: string[] = []
  const publish = async (records: readonly { readonly sub: string | null }[]) =>
    void subjects.push(...records.map(({ sub }) => String(sub)))
  while ((await publishAcknowledgements(curfew.db, { spanMs, lagMs, publish }))?.more === true);
  return subjects
}

/** Logs the users out, and waits until the ledger has settled their logouts. */
async function logOut(...subs: readonly string[]): Promise<void> {
  const events = await curfew.client.postLogoutEvents(subs.map((sub) => ({ iss: ISS, sub })))
  for (const { id } of events) {
    const { status } = await curfew.client.getLogoutEvent(id ?? '', { wait: 20 })
    expect(status).toBe('settled')
  }
}

test('every acknowledgement is published once, however small the spans', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a', 'b', 'c')
  expect([...(await published({ spanMs: 50 }))].toSorted()).toEqual(['a', 'b', 'c'])
  await logOut('d')
  expect(await published()).toEqual(['d'])
  expect(await published()).toEqual([])
})

test('a failed span is published again, and only by one publisher at a time', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a')
  const unavailable = new EventLogUnavailableError('unavailable')
  const request = { spanMs: 3_600_000, lagMs: 0 }
  const failing = publishAcknowledgements(curfew.db, {
    ...request,
    publish: () => Promise.reject(unavailable),
  })
  await expect(failing).rejects.toBe(unavailable)
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
    publish: () => Promise.reject(new Error('published twice')),
  })
  expect(await meanwhile).toBeNull()
  resolve()
  expect(await slow).toMatchObject({ published: 1 })
  expect(await published()).toEqual([])
})

test('acknowledgements that are still being written are published later', async () => {
  await using _shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await logOut('a')
  expect(await published({ lagMs: 60_000 })).toEqual([])
  await eventually(async () => expect(await published({ lagMs: 1_000 })).toEqual(['a']))
})

test('a refused delivery publishes no acknowledgement', async () => {
  await using shop = await openRelyingParty(curfew, { clientId: 'shop' })
  shop.behave({ status: 400 })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'a' })
  await shop.told(1)
  await eventually(async () => expect((await curfew.db.query('select from attempts')).rows).toHaveLength(1))
  expect(await published()).toEqual([])
})
