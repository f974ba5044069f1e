import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  CLIENT_ID,
  claimsWith,
  createKey,
  ISSUER,
  jwksOf,
  logoutRequest,
  NOW,
  type SigningKey,
} from './issuer.fixture.ts'
import { createLogoutReceiver, type Logout, type LogoutReceiverOptions, type Refusal } from './receiver.ts'
import { memoryReplayStore, type ReplayStore } from './replay-store.ts'

// Goal: a request is answered as Back-Channel Logout 2.8 says. The app is called for valid logouts only, and a failed logout can
// be repeated.
// Method: real tokens in web-standard requests; tests compare the whole answer.

let key: SigningKey
beforeAll(async () => {
  key = await createKey('k1')
})

let logouts: Logout[]
let errors: unknown[]
let refusals: Refusal[]
beforeEach(() => {
  logouts = []
  errors = []
  refusals = []
})

const receiverWith = (overrides: Partial<LogoutReceiverOptions> = {}) =>
  createLogoutReceiver({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    jwks: jwksOf(key),
    now: () => NOW,
    onLogout: (logout) => logouts.push(logout),
    onError: (error) => errors.push(error),
    onRefusal: (refusal) => refusals.push(refusal),
    ...overrides,
  })

const post = async (
  receiver: { handle(request: Request): Promise<Response> },
  claims?: Record<string, unknown>,
) => receiver.handle(logoutRequest({ logout_token: await key.sign(claims) }))

/** Reads the whole answer. */
async function read(response: Response) {
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
  }
}
const answered = (status: number, error: string, description: string, headers = {}) => ({
  status,
  headers: { 'cache-control': 'no-store', 'content-type': 'application/json', ...headers },
  body: JSON.stringify({ error, error_description: description }),
})
const OK = { status: 200, headers: { 'cache-control': 'no-store' }, body: '' }

describe('a logout', () => {
  test('reaches the app, and the answer is an empty 200 with no-store', async () => {
    const claims = claimsWith({ txn: 'event-1', extra: 1 })
    expect(await read(await post(receiverWith(), claims))).toEqual(OK)
    expect(logouts).toEqual([
      { issuer: ISSUER, subject: 'alice', sessionId: 'session-1', eventId: 'event-1', jti: 'jti-1', claims },
    ])
  })

  test.each([
    [{ sid: undefined }, { subject: 'alice', sessionId: null, eventId: null }],
    [{ sub: undefined }, { subject: null, sessionId: 'session-1', eventId: null }],
  ])('names only the subject or session of its token: claims changed by %o', async (change, expected) => {
    await post(receiverWith(), claimsWith(change))
    expect(logouts).toMatchObject([expected])
  })

  test('is answered only after onLogout has finished', async () => {
    const ended = Promise.withResolvers<void>()
    let answered = false
    const response = post(receiverWith({ onLogout: () => ended.promise })).then((value) => {
      answered = true
      return value
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(answered).toBe(false)
    ended.resolve()
    expect(await response).toMatchObject({ status: 200 })
  })
})

describe('a request that is not a valid logout', () => {
  const token = () => key.sign()
  const missing = answered(400, 'invalid_request', 'logout_token is missing')
  const notForm = answered(400, 'invalid_request', 'the body is not application/x-www-form-urlencoded')
  const tooLarge = answered(400, 'invalid_request', 'the body is too large or cannot be read')

  test.each<[string, () => Promise<Request>, object]>([
    ['no token', async () => logoutRequest({}), missing],
    ['an empty token', async () => logoutRequest({ logout_token: '' }), missing],
    ['a token under another name', async () => logoutRequest({ id_token: await token() }), missing],
    [
      'the same token twice',
      async () => logoutRequest(`logout_token=${await token()}&logout_token=${await token()}`),
      answered(400, 'invalid_request', 'logout_token is present more than once'),
    ],
    [
      'JSON',
      async () =>
        logoutRequest(JSON.stringify({ logout_token: await token() }), { type: 'application/json' }),
      notForm,
    ],
    [
      'multipart',
      async () => logoutRequest(`logout_token=${await token()}`, { type: 'multipart/form-data' }),
      notForm,
    ],
    ['no media type', async () => logoutRequest(`logout_token=${await token()}`, { type: '' }), notForm],
    [
      'a token in the query',
      async () => new Request(`https://shop.example/?logout_token=${await token()}`, { method: 'POST' }),
      notForm,
    ],
    [
      'a body of 64 KiB and a byte',
      async () => logoutRequest(`logout_token=${'x'.repeat(65_524)}`),
      tooLarge,
    ],
    [
      'a content-length above 64 KiB',
      async () => logoutRequest({ logout_token: await token() }, { headers: { 'content-length': '65537' } }),
      answered(400, 'invalid_request', 'the body is too large'),
    ],
    [
      'a token for another client',
      async () => logoutRequest({ logout_token: await key.sign(claimsWith({ aud: 'other' })) }),
      answered(400, 'invalid_request', `aud does not contain ${CLIENT_ID}`),
    ],
  ])('with %s gets a 400 that describes the fault', async (_name, request, expected) => {
    expect(await read(await receiverWith().handle(await request()))).toEqual(expected)
    expect(logouts).toEqual([])
    expect(refusals).toMatchObject([{ status: 400, error: 'invalid_request' }])
    expect(errors).toEqual([])
  })

  test.each(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])(
    'with method %s gets a 405 that names POST',
    async (method) => {
      const response = await receiverWith().handle(new Request('https://shop.example/', { method }))
      expect(await read(response)).toEqual(
        answered(405, 'invalid_request', 'only POST is answered', { allow: 'POST' }),
      )
    },
  )

  test('with an endless body is refused after the limit', async () => {
    let chunks = 0
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        chunks += 1
        controller.enqueue(new Uint8Array(16 * 1024).fill(97))
      },
    })
    const request = new Request('https://shop.example/', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: endless,
      duplex: 'half',
    })
    expect(await read(await receiverWith().handle(request))).toEqual(tooLarge)
    expect(chunks).toBeLessThan(10)
  })

  test('with a body that breaks off gets a 400', async () => {
    const body = new ReadableStream({ pull: (controller) => controller.error(new Error('gone')) })
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const request = new Request('https://shop.example/', { method: 'POST', headers, body, duplex: 'half' })
    expect(await receiverWith().handle(request)).toMatchObject({ status: 400 })
    expect(refusals).toMatchObject([{ cause: { message: 'gone' } }])
  })

  test('extra fields, a charset and capitals in the media type do no harm', async () => {
    const body = `a=1&logout_token=${await token()}&b=%E0%A4%A`
    const request = logoutRequest(body, { type: 'Application/X-WWW-Form-Urlencoded; charset=UTF-8' })
    expect(await read(await receiverWith().handle(request))).toEqual(OK)
  })
})

describe('a failure', () => {
  const SECRET = 'the password is hunter2'
  const failed = answered(400, 'logout_failed', 'the session could not be ended')

  test.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error(SECRET)
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error(SECRET)
      },
    ],
    ['rejects with a string', () => Promise.reject(SECRET)],
  ])(
    'of an onLogout that %s is a 400 without the message, which goes to onError',
    async (_name, onLogout) => {
      expect(await read(await post(receiverWith({ onLogout })))).toEqual(failed)
      expect(String(errors[0])).toContain(SECRET)
      expect(refusals).toMatchObject([{ status: 400, error: 'logout_failed' }])
    },
  )

  test('to fetch the keys of the issuer is a 400 logout_failed, and goes to onError', async () => {
    const fetch = async () => Response.json({}, { status: 503 })
    const response = await post(receiverWith({ jwks: undefined, fetch }))
    expect(await read(response)).toEqual(
      answered(400, 'logout_failed', 'the keys of the issuer are unavailable'),
    )
    expect(errors).toMatchObject([{ name: 'KeysUnavailableError' }])
  })

  test('of the onRefusal hook does not change the answer', async () => {
    const broken = () => {
      throw new Error('broken')
    }
    const receiver = receiverWith({ onRefusal: broken })
    expect(await receiver.handle(logoutRequest({}))).toMatchObject({ status: 400 })
    expect(errors).toMatchObject([{ message: 'broken' }])
  })
})

describe('replay (Back-Channel Logout 2.6 step 8)', () => {
  const used = answered(400, 'invalid_request', 'jti was used before')

  test('a used token is refused; another token for the same session is not', async () => {
    const receiver = receiverWith()
    expect(await read(await post(receiver))).toEqual(OK)
    expect(await read(await post(receiver))).toEqual(used)
    expect(await read(await post(receiver, claimsWith({ jti: 'jti-2' })))).toEqual(OK)
    expect(logouts).toHaveLength(2)
  })

  test('a token whose logout failed is accepted again', async () => {
    let fails = true
    const receiver = receiverWith({
      onLogout: (logout) => {
        if (fails) throw new Error('unavailable')
        logouts.push(logout)
      },
    })
    for (let n = 0; n < 3; n++) expect(await post(receiver)).toMatchObject({ status: 400 })
    fails = false
    expect(await read(await post(receiver))).toEqual(OK)
    expect(await read(await post(receiver))).toEqual(used)
    expect(logouts).toHaveLength(1)
  })

  test.each([true, false])(
    'concurrent requests with the same token share one outcome (fails: %s)',
    async (fails) => {
      let calls = 0
      const ended = Promise.withResolvers<void>()
      const receiver = receiverWith({
        onLogout: async () => {
          calls += 1
          await ended.promise
          if (fails) throw new Error('unavailable')
        },
      })
      const [one, other] = [post(receiver), post(receiver)]
      await expect.poll(() => calls).toBe(1)
      ended.resolve()
      expect([(await one).status, (await other).status]).toEqual(fails ? [400, 400] : [200, 200])
      expect(calls).toBe(1)
      expect(await post(receiver)).toMatchObject({ status: 400 })
      expect(calls).toBe(fails ? 2 : 1)
    },
  )

  test('receivers that share a store refuse tokens that another of the same client used', async () => {
    const replayStore = memoryReplayStore({ now: () => NOW })
    const receivers = [{}, {}, { clientId: 'other' }].map((more) => receiverWith({ replayStore, ...more }))
    const claims = claimsWith({ aud: [CLIENT_ID, 'other'] })
    const statuses: number[] = []
    for (const receiver of receivers) statuses.push((await post(receiver, claims)).status)
    expect(statuses).toEqual([200, 400, 200])
  })

  test('the store gets a short key after onLogout, for as long as the token stays valid', async () => {
    const added: [string, number, number][] = []
    const replayStore: ReplayStore = {
      has: () => false,
      add: (name, ttlS) => void added.push([name, ttlS, logouts.length]),
    }
    await post(receiverWith({ replayStore }), claimsWith({ jti: 'x'.repeat(5_000) }))
    expect(added).toEqual([[expect.stringMatching(/^[0-9a-f]{64}$/), 180, 1]])
  })

  test('an unavailable store does not stop a logout, and its failures go to onError', async () => {
    const fail = async () => {
      throw new Error('the store is unavailable')
    }
    expect(await read(await post(receiverWith({ replayStore: { has: fail, add: fail } })))).toEqual(OK)
    expect(logouts).toHaveLength(1)
    expect(errors).toHaveLength(2)
  })
})
