import type { LogoutEventInput } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { sessionsOf, startSession } from '../support/session-rows.ts'

// Goal: a user is logged out at one relying party and logs in there again with the same IdP session. The session index keeps that
// login, however late a bookkeeper projects the end of the first one.
// Method: all of Curfew, and a bookkeeper that starts only after the second login.

let curfew: Curfew
let mail: RelyingParty
let wiki: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew()
  ;[mail, wiki] = (await Promise.all(
    ['mail', 'wiki'].map((clientId) => openRelyingParty(curfew, { clientId })),
  )) as [RelyingParty, RelyingParty]
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all([mail.close(), wiki.close()])
})

const started = (sub: string, { clientId }: RelyingParty, agoMs = 0) =>
  startSession(curfew.db, {
    iss: ISS,
    sub,
    sid: `sso-${sub}`,
    clientId,
    startedAt: new Date(Date.now() - agoMs),
  })
async function logout(event: Partial<LogoutEventInput>): Promise<string> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, ...event })
  expect((await curfew.client.getLogoutEvent(id, { wait: 30 })).settled_at).not.toBeNull()
  return id
}
/** Runs a bookkeeper until it has projected the whole journal. */
async function projected(): Promise<void> {
  const bookkeeper = await curfew.startBookkeeper()
  await eventually(async () => expect((await curfew.db.query('select from journal')).rowCount).toBe(0))
  await bookkeeper.stop()
}

describe('a user who logs in again', () => {
  test('is logged out by the next logout', async () => {
    for (const rp of [mail, wiki]) await started('alice', rp, 60_000)
    await logout({ sub: 'alice', clients: ['mail'] })
    await started('alice', mail)
    await projected()
    expect(await sessionsOf(curfew.db, 'alice')).toMatchObject([
      { clientId: 'mail', logoutEventId: null },
      { clientId: 'wiki', logoutEventId: null },
    ])
    const next = await logout({ sub: 'alice' })
    expect(mail.received.filter(({ claims }) => claims.txn === next)).toHaveLength(1)
    await projected()
    expect(await sessionsOf(curfew.db, 'alice')).toEqual([])
  })

  test('leaves an orphan if the next logout fails before the first is projected', async () => {
    await started('bob', mail, 60_000)
    await logout({ sub: 'bob', clients: ['mail'] })
    await started('bob', mail)
    mail.behave({ status: 410 })
    const next = await logout({ sub: 'bob' })
    mail.behave(null)
    await projected()
    expect(await sessionsOf(curfew.db, 'bob')).toMatchObject([
      { logoutEventId: storedId(next), orphaned: true },
    ])
  })

  test('has no new session if the same start is posted again', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    const session = await started('carol', wiki, 60_000)
    await logout({ sub: 'carol', clients: ['wiki'] })
    await startSession(curfew.db, { ...session, device: 'phone' })
    await projected()
    expect(await sessionsOf(curfew.db, 'carol')).toEqual([])
  })
})
