import { projectSessions, sweepHistory, withTransaction } from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSession } from '../support/session-rows.ts'

// Goal: a delivery that a late session adds to an event survives a concurrent erasure or sweep of that event.
// Method: the transaction that adds the delivery stays open until the other transaction waits for it or has ended.

const SUB = 'alice'

let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew()
})
afterEach(() => curfew.stop())

/** Runs `remove` while a delivery is added to an old and settled event. @returns the event's id, and the RP of the delivery. */
async function whileAddingDelivery(
  remove: () => Promise<unknown>,
): Promise<{ id: string; mail: RelyingParty }> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: SUB })
  await curfew.client.getLogoutEvent(id, { wait: 10 })
  await curfew.db.query('delete from journal')
  await curfew.db.query("update events set accepted_at = accepted_at - interval '2 hours'")
  const mail = await openRelyingParty(curfew, { clientId: 'mail' })
  await insertSession(curfew.db, { iss: ISS, sub: SUB, sid: 'late', clientId: 'mail' })
  let removed: Promise<unknown> = Promise.resolve()
  await withTransaction(curfew.db, async (transaction) => {
    await projectSessions(transaction, [
      { kind: 'planned', at: new Date(), eventIds: [storedId(id)], owed: [] },
    ])
    let over = false
    removed = remove().finally(() => {
      over = true
    })
    await eventually(async () => {
      const { rows } = await curfew.db.query(
        "select from pg_locks where not granted and locktype in ('transactionid', 'tuple')",
      )
      expect(over || rows.length > 0).toBe(true)
    })
  })
  await removed
  return { id, mail }
}

describe('an event that is gaining a delivery', () => {
  test('keeps its subject during an erasure until that delivery is settled', async () => {
    const { id, mail: rp } = await whileAddingDelivery(() => curfew.client.eraseSubject(ISSUER, SUB))
    const { rows } = await curfew.db.query(
      'select e.sub, d.sid from events e join deliveries d on d.event_id = e.id where e.id = $1',
      [storedId(id)],
    )
    expect(rows).toContainEqual({ sub: SUB, sid: 'late' })
    await using mail = rp
    await mail.told(1)
  })

  test('survives a sweep that would otherwise delete it', async () => {
    const later = new Date(Date.now() + 60_000)
    const { mail: rp } = await whileAddingDelivery(() =>
      sweepHistory(curfew.db, { before: later, deadBefore: later, after: null, limit: 10 }),
    )
    await using mail = rp
    await eventually(() => expect(mail.received.map(({ claims }) => claims.sid)).toContain('late'))
  })
})
