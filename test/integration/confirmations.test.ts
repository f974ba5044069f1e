import { randomBytes, randomUUID } from 'node:crypto'
import type { RelyingParty as Registration } from '@curfew/contract'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions } from '../support/session-rows.ts'
import {
  openWebhookReceiver,
  type ReceivedWebhook,
  signers,
  type WebhookReceiver,
} from '../support/webhook-receiver.ts'

// Goal: the client that starts a logout gets exactly one message about it, true at its time, whatever is killed or unavailable.
// Method: real relying parties, a real receiver that verifies signatures, real bookkeepers, short schedules.

const NOTIFYING = {
  webhookScheduleMs: [1, 1, 1, 1, 1, 1],
  deadLetterWindowMs: 1,
  breakerQuietMs: 60_000,
  outcomesLagMs: 0,
}
const PORTAL = `/v1/issuers/${ISSUER}/relying-parties/portal`
const DAY_MS = 86_400_000

let curfew: Curfew
let hook: WebhookReceiver
beforeEach(async () => {
  curfew = await openCurfew({ notifying: NOTIFYING })
  hook = await openWebhookReceiver()
})
afterEach(async () => {
  await hook[Symbol.asyncDispose]()
  await curfew.stop()
})

/** Registers the client that starts logouts. @returns its secret. */
async function registerPortal(curfewSettings: Registration['curfew'] = {}): Promise<string> {
  const party = await curfew.client.putRelyingParty(ISSUER, 'portal', {
    curfew: { confirmation_uri: hook.url, confirmation_deadline_ms: DAY_MS, ...curfewSettings },
  })
  return party.curfew.confirmation_secret ?? ''
}

async function rp(clientId: string, clientName: string): Promise<RelyingParty> {
  const opened = await openRelyingParty(curfew, {
    clientId,
    metadata: { client_name: clientName },
    curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000, 1_000] },
  })
  onTestFinished(() => opened.close())
  return opened
}

async function logout(more: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const event = { iss: ISS, sub: 'alice', sid: 'sid-1', scope: 'session', initiator: 'portal', ...more }
  return (await curfew.client.postLogoutEvent(event as never)).id
}

const settled = (id: string) => curfew.client.getLogoutEvent(id, { wait: 20 })
const list = async (query = '') => {
  const response = await curfew.call('GET', `${PORTAL}/confirmations${query}`)
  return ((await response.json()) as { items: readonly Readonly<Record<string, unknown>>[] }).items
}
const until = (expected: readonly Readonly<Record<string, unknown>>[]) =>
  eventually(async () => expect(await list()).toMatchObject(expected))
/** Waits until every journal entry is projected. */
const projected = () =>
  eventually(async () => expect((await curfew.db.query('select from journal')).rows).toEqual([]))
const passDeadline = () =>
  curfew.db.query(`update confirmations set due_at = now() where attempts = 0 and due_at is not null`)
const timestampOf = ({ raw }: ReceivedWebhook) => (JSON.parse(raw) as { timestamp: string }).timestamp

describe('a settled logout', () => {
  test('is confirmed as complete once all applications have acknowledged, by one signed message', async () => {
    await curfew.startBookkeeper()
    await rp('wiki', 'Wiki')
    await rp('mail', 'Mail')
    const secret = await registerPortal()
    const id = await logout()
    const { settled_at } = await settled(id)
    const [first] = await hook.told(1)
    expect(first).toMatchObject({ type: 'logout.confirmation' })
    expect(first?.data).toEqual({
      event_id: id,
      iss: ISS,
      sid: 'sid-1',
      complete: true,
      settled_at,
      applications: [
        { client_id: 'mail', client_name: 'Mail', state: 'signed_out' },
        { client_id: 'wiki', client_name: 'Wiki', state: 'signed_out' },
      ],
    })
    expect(first === undefined ? [] : signers(first, [secret])).toEqual([0])
    await until([
      { id: first?.id, event_id: id, state: 'delivered', complete: true, attempts: 1, status: 204 },
    ])
    // A confirmation of a later logout shows that the first one is not sent again.
    await logout({ sid: 'sid-2' })
    const all = await hook.told(2)
    expect(all.map(({ data }) => data.sid)).toEqual(['sid-1', 'sid-2'])
  })

  test('is confirmed as incomplete if an application has failed, without the reason', async () => {
    await curfew.startBookkeeper()
    const wiki = await rp('wiki', 'Wiki')
    await curfew.client.changeRelyingParty(ISSUER, 'wiki', () => ({ curfew: { retry_schedule_ms: [] } }))
    wiki.behave({ status: 500 })
    await registerPortal()
    await settled(await logout())
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({
      complete: false,
      settled_at: expect.any(String),
      applications: [{ client_id: 'wiki', client_name: 'Wiki', state: 'not_signed_out' }],
    })
    expect(first?.raw).not.toMatch(/500|127\.0\.0\.1|exhausted|unavailable/)
  })

  test('without other applications is confirmed as complete', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    await logout()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({ complete: true, settled_at: expect.any(String), applications: [] })
  })

  test('is confirmed as incomplete if the user is known to be signed in at a client without an endpoint', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    await insertSessions(curfew.db, ISS, [{ sub: 'alice', sid: 'sid-1', clientId: 'fax' }])
    await logout()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({
      complete: false,
      settled_at: expect.any(String),
      applications: [{ client_id: 'fax', client_name: 'fax', state: 'not_signed_out' }],
    })
  })

  test('whose deliveries a newer logout supersedes is confirmed once those of the newer logout are settled', async () => {
    await curfew.startBookkeeper()
    const wiki = await rp('wiki', 'Wiki')
    await wiki.goDown()
    await registerPortal()
    const older = await logout()
    const newer = await logout({ initiator: undefined })
    await settled(older)
    await projected()
    await until([{ event_id: older, state: 'pending', attempts: 0 }])
    await wiki.comeUp()
    const { settled_at } = await settled(newer)
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({ event_id: older, complete: true, settled_at })
  })

  test('is confirmed to its initiator only, and only if that has a confirmation_uri', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    await curfew.client.putRelyingParty(ISSUER, 'silent', { client_name: 'Silent' })
    await curfew.client.putIssuer('other', { iss: 'https://other.example' })
    await settled(await logout({ initiator: 'silent' }))
    await settled(await logout({ initiator: undefined }))
    await settled(await logout({ iss: 'https://other.example' }))
    await settled(await logout({ initiator: 'never-registered' }))
    await settled(await logout({ sid: 'sid-of-portal' }))
    await hook.told(1)
    await projected()
    const { rows } = await curfew.db.query('select event_id from confirmations')
    expect(rows).toHaveLength(1)
    expect(hook.received.map(({ data }) => data.sid)).toEqual(['sid-of-portal'])
  })

  test('is confirmed once, however often the event is posted', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    const id = randomUUID()
    for (let times = 0; times < 3; times++) await logout({ id })
    await hook.told(1)
    await settled(await logout({ sid: 'sid-2' }))
    expect((await hook.told(2)).map(({ data }) => data.event_id)).toHaveLength(2)
    expect(await list()).toHaveLength(2)
  })

  test('that is a part of an issuer logout owes no confirmation, and the issuer logout owes none', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    await insertSessions(curfew.db, ISS, [{ sub: 'bob', sid: 'sid-of-bob', clientId: 'wiki' }])
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer', initiator: 'portal' })
    await eventually(async () =>
      expect(await curfew.client.getIssuerLogout(id)).toMatchObject({ state: 'done', total: 1 }),
    )
    await projected()
    const { rows } = await curfew.db.query(`select initiator from events`)
    expect(rows).toEqual([{ initiator: 'portal' }, { initiator: 'portal' }])
    expect(await list()).toEqual([])
  })
})

describe('at the deadline', () => {
  test('an unsettled logout is confirmed as incomplete, naming the application, and never again', async () => {
    await curfew.startBookkeeper()
    const wiki = await rp('wiki', 'Wiki')
    await rp('mail', 'Mail')
    await wiki.goDown()
    await registerPortal({ confirmation_deadline_ms: 4_000 })
    const id = await logout()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({
      complete: false,
      settled_at: null,
      applications: [
        { client_id: 'mail', state: 'signed_out' },
        { client_id: 'wiki', state: 'ending' },
      ],
    })
    await wiki.comeUp()
    expect(await settled(id)).toMatchObject({ status: 'settled', acknowledged: 2 })
    await projected()
    await until([{ event_id: id, state: 'delivered', complete: false, attempts: 1 }])
    expect(hook.received).toHaveLength(1)
  })

  test('a logout whose deliveries wait under a newer logout is confirmed as unsettled', async () => {
    await curfew.startBookkeeper()
    const wiki = await rp('wiki', 'Wiki')
    await wiki.goDown()
    await registerPortal()
    const older = await logout()
    await logout({ initiator: undefined })
    await settled(older)
    await projected()
    await passDeadline()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({
      complete: false,
      settled_at: null,
      applications: [{ client_id: 'wiki', state: 'ending' }],
    })
  })

  test('the deadline counts from the acceptance of the logout, and has a default of a minute', async () => {
    await curfew.startBookkeeper()
    const wiki = await rp('wiki', 'Wiki')
    wiki.behave('hang')
    await curfew.client.putRelyingParty(ISSUER, 'portal', { curfew: { confirmation_uri: hook.url } })
    const id = await logout()
    await eventually(async () => expect(await list()).toHaveLength(1))
    const { accepted_at } = await curfew.client.getLogoutEvent(id)
    const deadline = new Date(Date.parse(accepted_at) + 60_000).toISOString()
    expect(await list()).toMatchObject([
      { state: 'pending', complete: null, deadline_at: deadline, due_at: deadline, attempts: 0 },
    ])
  })
})

describe('a confirmation', () => {
  test('to an unavailable receiver is repeated with the same id and bytes until it is taken', async () => {
    await curfew.startBookkeeper()
    hook.behave(503)
    const secret = await registerPortal()
    await logout()
    await hook.told(2)
    hook.behave(204)
    await until([{ state: 'delivered' }])
    const { received } = hook
    expect(new Set(received.map(({ id }) => id)).size).toBe(1)
    expect(new Set(received.map(({ raw }) => raw)).size).toBe(1)
    for (const one of received) expect(signers(one, [secret])).toEqual([0])
  })

  test('fails at the end of the schedule, and operators see why', async () => {
    await curfew.startBookkeeper()
    hook.behave(503)
    await registerPortal()
    await logout()
    await until([{ state: 'failed', attempts: 7, status: 503, error: 'answered 503', due_at: null }])
    expect(await list('?state=failed')).toHaveLength(1)
    expect(await list('?state=pending')).toEqual([])
    const lines = curfew.lines.filter((line) => line.includes('confirmation.attempted'))
    expect(lines).toHaveLength(7)
    expect(lines.at(-1)).toMatch(/"client_id":"portal".*"state":"failed"/)
  })

  test('that is answered 410 is not repeated', async () => {
    await curfew.startBookkeeper()
    hook.behave(410)
    await registerPortal()
    await logout()
    await until([{ state: 'failed', attempts: 1, status: 410 }])
  })

  test('waits in the journal while no bookkeeper runs', async () => {
    await rp('wiki', 'Wiki')
    await registerPortal()
    await settled(await logout())
    expect(await list()).toEqual([])
    await curfew.startBookkeeper()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({ complete: true })
  })

  test('of a killed bookkeeper is sent by another under the same id when its lease is over', async () => {
    const first = await curfew.startBookkeeper()
    hook.behave(null)
    await registerPortal()
    await logout()
    await hook.told(1)
    await first.kill()
    hook.behave(204)
    await curfew.startBookkeeper()
    await until([{ state: 'pending', attempts: 1 }])
    await curfew.db.query(`update confirmations set due_at = due_at - interval '60 seconds'`)
    await until([{ state: 'delivered', attempts: 2 }])
    const [one, other] = hook.received
    expect(other?.id).toBe(one?.id)
    expect(other?.raw).toBe(one?.raw)
  })

  test('claimed by a bookkeeper that was killed before it wrote the message says what is true later', async () => {
    const wiki = await rp('wiki', 'Wiki')
    wiki.behave('hang')
    await registerPortal()
    const bookkeeper = await curfew.startBookkeeper()
    const id = await logout()
    await eventually(async () => expect(await list()).toHaveLength(1))
    await bookkeeper.kill()
    await curfew.db.query(`update confirmations set attempts = 1, due_at = now() + interval '3 seconds'`)
    wiki.behave(null)
    await wiki.goDown()
    await wiki.comeUp()
    await settled(id)
    await curfew.startBookkeeper()
    const [first] = await hook.told(1)
    expect(first?.data).toMatchObject({ complete: true })
    expect(Date.parse(first === undefined ? '' : timestampOf(first))).toBeGreaterThan(Date.now() - 25_000)
  })

  test('is sent once by two bookkeepers, and a client that hangs delays no other', async () => {
    await curfew.startBookkeeper()
    await curfew.startBookkeeper()
    await using hanging = await openWebhookReceiver()
    hanging.behave(null)
    await curfew.client.putRelyingParty(ISSUER, 'slow', { curfew: { confirmation_uri: hanging.url } })
    await registerPortal()
    for (let n = 0; n < 12; n++) await logout({ initiator: 'slow', sid: `slow-${n}` })
    for (let n = 0; n < 12; n++) await logout({ sid: `sid-${n}` })
    const all = await hook.told(12)
    expect(new Set(all.map(({ data }) => data.sid)).size).toBe(12)
    await until(Array.from({ length: 12 }, () => ({ state: 'delivered', attempts: 1 })))
  })

  test('fails in words if the client removed its confirmation_uri, and nothing is sent', async () => {
    const wiki = await rp('wiki', 'Wiki')
    wiki.behave('hang')
    await curfew.startBookkeeper()
    await registerPortal()
    await logout()
    await eventually(async () => expect(await list()).toHaveLength(1))
    await curfew.client.changeRelyingParty(ISSUER, 'portal', () => ({
      curfew: { confirmation_uri: null, confirmation_deadline_ms: null },
    }))
    await passDeadline()
    await until([{ state: 'failed', error: 'the client has no confirmation_uri any more' }])
    expect(hook.received).toEqual([])
  })

  test('is sent only within the networks of the client at that time', async () => {
    await curfew.startBookkeeper()
    await registerPortal()
    await curfew.client.putIssuer(ISSUER, { iss: ISS, defaults: { allowed_networks: ['10.0.0.0/8'] } })
    await logout()
    await until([
      { state: 'failed', status: null, error: expect.stringContaining('is in no allowed network') },
    ])
    expect(hook.received).toEqual([])
  })
})

describe('the subject', () => {
  test('is in no column of a confirmation, and an erased sid is not sent', async () => {
    await curfew.startBookkeeper()
    hook.behave(null)
    await registerPortal()
    const id = await logout({ sid: 'sid-to-erase' })
    await hook.told(1)
    const { rows } = await curfew.db.query<{ text: string }>(
      'select to_jsonb(c)::text as text from confirmations c',
    )
    expect(rows[0]?.text).toContain(id)
    expect(rows[0]?.text).not.toMatch(/sid-to-erase|alice/)
    await curfew.client.eraseSubject(ISSUER, 'alice')
    await eventually(async () => expect((await curfew.client.getLogoutEvent(id)).erased_at).not.toBeNull())
    hook.behave(204)
    await curfew.db.query(`update confirmations set due_at = now()`)
    const [, second] = await hook.told(2)
    expect(second?.data.event_id).toBe(id)
    expect(second?.raw).not.toContain('sid')
  })
})

describe('the secret', () => {
  const given = `whsec_${randomBytes(24).toString('base64')}`

  test('is in the answer that makes it only, and stored encrypted', async () => {
    const secret = await registerPortal()
    expect(Buffer.from(secret.replace('whsec_', ''), 'base64')).toHaveLength(32)
    const show = await curfew.client.getRelyingParty(ISSUER, 'portal')
    const exported = await (
      await curfew.call('GET', `/v1/issuers/${ISSUER}/relying-parties`, undefined, {
        accept: 'application/x-ndjson',
      })
    ).text()
    const again = await curfew.client.changeRelyingParty(ISSUER, 'portal', () => ({ client_name: 'Portal' }))
    const put = await curfew.client.putRelyingParty(ISSUER, 'portal', { curfew: show.curfew })
    const audit = await (await curfew.call('GET', '/v1/audit')).text()
    const stored = JSON.stringify((await curfew.db.query('select settings from relying_parties')).rows)
    for (const text of [...[show, again, put].map((party) => JSON.stringify(party)), exported, audit]) {
      expect(text).toContain('confirmation_uri')
      expect(text).not.toMatch(/whsec_|sealed/)
    }
    expect(stored).not.toContain(secret.slice(6, 20))
    expect(curfew.lines.join('')).not.toContain(secret.slice(6, 20))
  })

  test('stays while the client has a confirmation_uri, and a new one is made after that', async () => {
    await curfew.startBookkeeper()
    const secret = await registerPortal()
    expect(await registerPortal({ confirmation_uri: `${hook.url}/moved` })).toBe('')
    await logout()
    const [first] = await hook.told(1)
    expect(first === undefined ? [] : signers(first, [secret])).toEqual([0])
    await curfew.client.putRelyingParty(ISSUER, 'portal', {})
    expect(await registerPortal()).not.toBe(secret)
  })

  test('may be given, and the same one again changes nothing', async () => {
    await curfew.startBookkeeper()
    expect(await registerPortal({ confirmation_secret: given })).toBe('')
    const { status } = await curfew.client.getRelyingParty(ISSUER, 'portal')
    await registerPortal({ confirmation_secret: given })
    expect((await curfew.client.getRelyingParty(ISSUER, 'portal')).status).toEqual(status)
    await logout()
    const [first] = await hook.told(1)
    expect(first === undefined ? [] : signers(first, [given])).toEqual([0])
  })

  test('signs beside its successor for a day after a rotation, the new one first', async () => {
    await curfew.startBookkeeper()
    const before = await registerPortal()
    const rotated = await curfew.client.rotateConfirmationSecret(ISSUER, 'portal')
    const { confirmation_secret: after = '' } = rotated.curfew
    expect(Date.parse(rotated.status.confirmation_previous_secret_until ?? '')).toBeGreaterThan(Date.now())
    await logout()
    const [first] = await hook.told(1)
    expect(first === undefined ? [] : signers(first, [before, after])).toEqual([1, 0])

    await curfew.db.query(
      `update relying_parties set settings = jsonb_set(settings, '{confirmation,previous_secret_until}', '"2020-01-01T00:00:00Z"')
        where client_id = 'portal'`,
    )
    await logout({ sid: 'sid-2' })
    const [, second] = await hook.told(2)
    expect(second === undefined ? [] : signers(second, [before, after])).toEqual([1])
    const audit = await (await curfew.call('GET', '/v1/audit')).text()
    expect(audit).toContain('relying_party.confirmation_secret_rotated')
    expect(audit).not.toMatch(/whsec_|sealed/)
  })

  test('of a client without a confirmation_uri cannot be rotated', async () => {
    await curfew.client.putRelyingParty(ISSUER, 'portal', {})
    const refused = await curfew.call('POST', `${PORTAL}/confirmations/rotate-secret`, {})
    expect(refused.status).toBe(409)
    expect(await refused.json()).toMatchObject({ title: 'No confirmation URI' })
    const short = await curfew.call('POST', `${PORTAL}/confirmations/rotate-secret`, {
      secret: 'whsec_c2hvcnQ=',
    })
    expect(await short.json()).toMatchObject({ status: 400, errors: [{ pointer: '/secret' }] })
    expect((await curfew.call('GET', `${PORTAL}x/confirmations`)).status).toBe(404)
  })

  test('is required by an import, unless one is stored', async () => {
    const line = (curfewSettings: object) =>
      `${JSON.stringify({ client_id: 'portal', curfew: curfewSettings })}\n`
    const uri = { confirmation_uri: hook.url }
    const imported = async (settings: object) => {
      const response = await curfew.call(
        'POST',
        `/v1/issuers/${ISSUER}/relying-parties/import`,
        line(settings),
        {
          'content-type': 'application/x-ndjson',
        },
      )
      return (await response.json()) as Readonly<Record<string, unknown>>
    }
    expect(await imported(uri)).toMatchObject({
      status: 400,
      faults: [{ line: 1, pointer: '/curfew/confirmation_secret' }],
    })
    expect(await imported({ ...uri, confirmation_secret: given })).toMatchObject({ created: 1 })
    expect(await imported(uri)).toMatchObject({ unchanged: 1 })
  })
})
