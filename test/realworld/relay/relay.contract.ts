import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../support/curfew.ts'
import { useProcesses } from '../../support/processes.ts'
import { type Browser, openBrowser } from '../browser.ts'
import { type ExpressRp, openExpressRp } from '../express-rp.ts'
import { openPlace, type Place, type RelayedIdp, type RelayedOptions, relayed } from './place.ts'

const USERS = ['bob', 'carol', 'dave', 'erin', 'frank', 'grace']
/** The first starts of an IdP and of Curfew, on a busy machine. */
const PREPARE_MS = 300_000
/** The users that log in. */
export const RELAY_USERS: readonly string[] = ['alice', ...USERS, 'heidi', 'last']
/** The RP is tried again soon, and for longer than a restart takes. */
const RETRY_SCHEDULE_MS = Array.from({ length: 30 }, () => 2_000)

export interface RelayContractOptions extends RelayedOptions {
  open(): Promise<RelayedIdp>
}

/** Defines the tests of a real IdP that posts its logouts to the relay. */
export function defineRelay({ open, ...options }: RelayContractOptions): void {
  const processes = useProcesses('file')
  let idp: RelayedIdp
  let place: Place
  let shop: ExpressRp
  const opened: { close(): Promise<void> }[] = []
  beforeAll(async () => {
    idp = await open()
    opened.push(idp)
    place = await openPlace(processes)
    opened.push(place)
    shop = await openExpressRp(await relayed(idp, place, options), {
      name: 'shop',
      settings: { subject_claims: 'sid', retry_schedule_ms: RETRY_SCHEDULE_MS },
    })
    opened.push(shop)
  }, PREPARE_MS)
  afterAll(async () => {
    await processes.end()
    await Promise.all(opened.map((resource) => resource.close()))
  })

  async function loggedIn(user: string): Promise<{ readonly browser: Browser; readonly sid: string }> {
    const browser = openBrowser()
    return { browser, sid: await shop.logIn(browser, user) }
  }
  /** The requests about this session that the shop answered with success. */
  const notified = (sid: string) =>
    shop.received.filter(({ token, status }) => status < 300 && claimsOf(token).sid === sid)
  const accepted = (sid: string) =>
    place.tap.posts.filter(({ token, status }) => status === 200 && claimsOf(token).sid === sid)

  test('a logout reaches the RP through the relay as the very token that the IdP sent', async () => {
    const { browser, sid } = await loggedIn('alice')
    await idp.logOut(browser)
    await eventually(() => expect(notified(sid)).toHaveLength(1))
    expect(notified(sid)[0]?.token).toBe(accepted(sid)[0]?.token)
    expect(await shop.userOf(browser)).toBeNull()
  })

  test('the IdP gets 200 while the RP is unavailable, and the RP is notified once when it is available', async () => {
    const { browser, sid } = await loggedIn('alice')
    await shop.pause()
    await idp.logOut(browser)
    await eventually(() => expect(accepted(sid)).toHaveLength(1))
    await eventually(async () => {
      const { items } = await place.client.listDeliveries({ client_id: shop.clientId, state: 'pending' })
      expect(items.map((item) => item.attempt_count)).toEqual([expect.any(Number)])
      expect(items[0]?.attempt_count).toBeGreaterThan(0)
    })
    // The IdP's part is over with its 200.
    await idp.restart?.()
    await shop.resume()
    await eventually(() => expect(notified(sid)).toHaveLength(1))
    // The IdP's own token was for the first attempt. This one is minted, with the IdP's key.
    expect(notified(sid)[0]?.token).not.toBe(accepted(sid)[0]?.token)
    expect(await shop.userOf(browser)).toBeNull()
  })

  test('SIGKILL of Curfew among logouts loses none that the IdP got 200 for, and the RP is notified of each once', async () => {
    const sessions: { readonly browser: Browser; readonly sid: string }[] = []
    // One after the other: Hydra over SQLite refuses concurrent logins.
    for (const user of USERS) sessions.push(await loggedIn(user))
    await shop.pause()
    const logouts = Promise.all(sessions.map(({ browser }) => idp.logOut(browser)))
    const isAccepted = ({ sid }: { readonly sid: string }) => accepted(sid).length > 0
    await eventually(() => expect(sessions.filter(isAccepted).length).toBeGreaterThanOrEqual(2))
    await place.kill()
    await logouts
    await place.start()
    await shop.resume()
    for (const { browser, sid } of sessions.filter(isAccepted)) {
      await eventually(() => expect(notified(sid)).toHaveLength(1))
      expect(await shop.userOf(browser)).toBeNull()
    }
    await expectNoneTwice()
  })

  test('SIGKILL of Curfew after an acknowledgement does not notify the RP again', async () => {
    const { browser, sid } = await loggedIn('heidi')
    await idp.logOut(browser)
    await eventually(async () => {
      expect(notified(sid)).toHaveLength(1)
      const { items } = await place.client.listDeliveries({ client_id: shop.clientId, state: 'pending' })
      expect(items).toEqual([])
    })
    await place.kill()
    await place.start()
    await expectNoneTwice()
  })

  /** Waits until a later logout has gone all the way, and looks for second notifications of the others. */
  async function expectNoneTwice(): Promise<void> {
    const { browser, sid } = await loggedIn('last')
    await idp.logOut(browser)
    await eventually(() => expect(notified(sid)).toHaveLength(1))
    const sids = shop.received.filter(({ status }) => status < 300).map(({ token }) => claimsOf(token).sid)
    expect(sids).toEqual([...new Set(sids)])
  }
}

/** The claims of a logout token, read without verification. */
export function claimsOf(token: string): { readonly sid?: string } & Readonly<Record<string, unknown>> {
  return readPart(token, 1)
}

/** The header of a logout token, read without verification. */
export function headerOf(token: string): Readonly<Record<string, unknown>> {
  return readPart(token, 0)
}

function readPart(token: string, part: number): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(token.split('.')[part] ?? '', 'base64url').toString('utf8'))
}
