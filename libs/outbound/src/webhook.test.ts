import type { Answer } from '@curfew/domain'
import { expect, test } from 'vitest'
import type { PostRequest } from './guarded-client.ts'
import { parseWebhookSecret, postWebhook } from './webhook.ts'

// Goal: any library for Standard Webhooks verifies our messages. Method: the specification's own example, to the byte.

const EXAMPLE = {
  url: 'https://siem.example/hook',
  allowedNetworks: null,
  grantedNetworks: [],
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  sentAt: new Date(1_614_265_330_999),
  body: '{"test": 2432232314}',
  secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
  timeoutMs: 1_000,
}
const SIGNATURE = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='

async function sent(request: typeof EXAMPLE): Promise<PostRequest> {
  const posted: PostRequest[] = []
  const ok: Answer = { kind: 'response', status: 200, retryAfter: null, body: '' }
  const post = async (posting: PostRequest) => {
    posted.push(posting)
    return ok
  }
  expect(await postWebhook({ post }, request)).toBe(ok)
  const [first] = posted
  if (first === undefined) throw new Error('nothing was posted')
  return first
}

test("the specification's example is reproduced to the byte", async () => {
  expect(await sent(EXAMPLE)).toEqual({
    uri: EXAMPLE.url,
    body: EXAMPLE.body,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'curfew',
      'webhook-id': EXAMPLE.id,
      'webhook-timestamp': '1614265330',
      'webhook-signature': SIGNATURE,
    },
    timeoutMs: 1_000,
    allowedNetworks: null,
    grantedNetworks: [],
  })
})

test('with several secrets the signatures of all are sent, separated by spaces', async () => {
  const other = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  const { headers } = await sent({ ...EXAMPLE, secrets: [other, ...EXAMPLE.secrets] })
  const [first, second, ...more] = headers['webhook-signature']?.split(' ') ?? []
  expect(first).toMatch(/^v1,[A-Za-z0-9+/]{43}=$/)
  expect(first).not.toBe(SIGNATURE)
  expect(second).toBe(SIGNATURE)
  expect(more).toEqual([])
})

test.each([
  ['24 bytes', `whsec_${Buffer.alloc(24).toString('base64')}`, 24],
  ['64 bytes', `whsec_${Buffer.alloc(64).toString('base64')}`, 64],
  ['23 bytes', `whsec_${Buffer.alloc(23).toString('base64')}`, null],
  ['65 bytes', `whsec_${Buffer.alloc(65).toString('base64')}`, null],
  ['no prefix', Buffer.alloc(32).toString('base64'), null],
  ['base64url', `whsec_${Buffer.alloc(32, 255).toString('base64url')}`, null],
  ['with a line end', `whsec_${Buffer.alloc(24).toString('base64')}\n`, null],
])('a secret of %s is parsed or refused', (_what, text, bytes) => {
  expect(parseWebhookSecret(text)?.length ?? null).toBe(bytes)
})
