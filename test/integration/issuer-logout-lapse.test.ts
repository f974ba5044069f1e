import { expect, test } from 'vitest'
import { eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { sessionsOf } from '../support/session-rows.ts'

// Goal: a logout that lapsed is delivered when its session turns out to last longer, and the counts of its issuer logout stay exact.
// Method: all of Curfew over HTTP, with a relying party that is unavailable until the delivery has lapsed.

test('a part of an issuer logout that lapsed is delivered when its session is extended', async () => {
  await using curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
  await using rp = await openRelyingParty(curfew, { clientId: 'mail' })
  rp.behave({ status: 503 })
  const session = { iss: ISS, sub: 'ann', sid: 's1', client_id: 'mail' }
  const hence = (ms: number) => new Date(Date.now() + ms).toISOString()
  const startedAt = hence(-60_000)
  await curfew.client.postSession({ ...session, started_at: startedAt, expires_at: hence(20_000) })
  await eventually(async () => expect(await sessionsOf(curfew.db, 'ann')).toHaveLength(1))
  await curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer' })
  const counts = async () => {
    const { rows } = await curfew.db.query<object>(
      'select acknowledged, lapsed, dead, owed from issuer_logouts',
    )
    return rows[0]
  }
  await eventually(async () => expect(await counts()).toMatchObject({ lapsed: 1 }))
  rp.behave(null)
  await curfew.client.postSession({ ...session, started_at: startedAt, expires_at: null })
  await eventually(async () =>
    expect(await counts()).toEqual({ acknowledged: 1, lapsed: 0, dead: 0, owed: 1 }),
  )
  expect(await sessionsOf(curfew.db, 'ann')).toEqual([])
})
