import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions } from '../support/session-rows.ts'

// Goal: a logout of everyone of an issuer logs out everyone who had a session then, each person once, whoever crashes, and nobody
// else; and it never stands in the way of one person.
// Method: all services over a real database, three relying parties of which one takes the subject only, and 300 people.

let curfew: Curfew
let parties: readonly RelyingParty[]
beforeEach(async () => {
  curfew = await openCurfew()
  parties = await Promise.all([
    openRelyingParty(curfew, { clientId: 'mail' }),
    openRelyingParty(curfew, { clientId: 'wiki' }),
    openRelyingParty(curfew, { clientId: 'desk', curfew: { subject_claims: 'sub' } }),
  ])
  await curfew.client.putIssuer('main', { iss: ISS, session_index: 'complete' })
})
afterEach(async () => {
  await curfew.stop()
  await Promise.all(parties.map((party) => party.close()))
})

const MINUTE_MS = 60_000
const PEOPLE = 300
const name = (number: number) => `user-${String(number).padStart(3, '0')}`
/** Everybody has a session of mail, every second one of wiki, every third one of desk. */
function sessionsOf(number: number) {
  return ['mail', 'wiki', 'desk']
    .filter((_, place) => number % (place + 1) === 0)
    .map((clientId) => ({ sub: name(number), sid: `${clientId}-${number}`, clientId }))
}
const EVERYBODY = Array.from({ length: PEOPLE }, (_, number) => number)
const SESSIONS = EVERYBODY.flatMap(sessionsOf)

/** Whom a relying party was told of: sid where it takes them, else sub; in an order. */
const toldOf = (clientId: string) =>
  (parties.find((party) => party.clientId === clientId)?.received ?? [])
    .map(({ claims }) => claims.sid ?? claims.sub)
    .toSorted()
const sidsOf = (clientId: string) =>
  SESSIONS.filter((session) => session.clientId === clientId)
    .map(({ sid }) => sid)
    .toSorted()

const logOutEveryone = (more: object = {}) =>
  curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer', reason: 'compromise', ...more })

/** The job when it has ended and all that it made is settled. */
const ended = (id: string) =>
  eventually(async () => {
    const job = await curfew.client.getIssuerLogout(id)
    expect(job).toMatchObject({ state: expect.not.stringMatching('running'), waiting: 0 })
    return job
  })

describe('everyone', () => {
  test('is logged out of every session that began before, and the dry run said so', async () => {
    await insertSessions(curfew.db, ISS, SESSIONS)
    // Signed in again since, and somebody who came since.
    const since = new Date(Date.now() + 5 * MINUTE_MS)
    await insertSessions(curfew.db, ISS, [
      { sub: name(0), sid: 'later', clientId: 'mail', startedAt: since },
      { sub: 'newcomer', sid: 'newcomer', clientId: 'mail', startedAt: since },
    ])
    const event = { iss: ISS, scope: 'issuer', occurred_at: new Date().toISOString() } as const
    const preview = await curfew.client.previewIssuerLogout(event)
    expect(preview).toEqual({
      dry_run: true,
      iss: ISS,
      plan_basis: 'sessions',
      subjects: PEOPLE,
      sessions: SESSIONS.length,
      by_client: ['mail', 'wiki', 'desk'].map((clientId) => {
        const { length } = sidsOf(clientId)
        return { client_id: clientId, sessions: length, subjects: length }
      }),
      clients_left_out: 0,
    })
    expect((await curfew.client.listIssuerLogouts()).items).toEqual([])

    await curfew.startBookkeeper()
    const { id } = await logOutEveryone(event)
    const job = await ended(id)
    expect(job).toMatchObject({ state: 'done', total: PEOPLE, done: PEOPLE, dead: 0, plan_basis: 'sessions' })
    expect(job.acknowledged).toBe(SESSIONS.length)
    expect([toldOf('mail'), toldOf('wiki')]).toEqual([sidsOf('mail'), sidsOf('wiki')])
    expect(toldOf('desk')).toEqual(EVERYBODY.filter((number) => number % 3 === 0).map(name))
    const { rows } = await curfew.db.query('select sid from sessions order by sid')
    expect(rows).toEqual([{ sid: 'later' }, { sid: 'newcomer' }])
  })
})
