import { randomBytes, randomUUID } from 'node:crypto'
import { LOGOUT_TOKEN_TYPE, logoutTokenClaims } from '@curfew/channels'
import type { GivenEventId, Issuer, IssuerName, SigningAlgorithm, Subject } from '@curfew/domain'
import { createGuardedClient } from '@curfew/outbound'
import { createKeyMaker, createKeyring, type StoredKey } from '@curfew/tokens'

// The bare limit: a process that only signs and posts, with Curfew's own signer and HTTP client, over the same kind of
// connections. It has no event log, no plan and no ledger.

/** A request to the bare loop: post for some seconds, or a number of times. */
export type BareQuestion = {
  readonly uri: string
  readonly algorithm: SigningAlgorithm
  /** Concurrent POSTs. */
  readonly concurrency: number
} & ({ readonly seconds: number } | { readonly posts: number })

export interface BareAnswer {
  /** POSTs per second. */
  readonly rate: number
  /** Processor time of one POST, in milliseconds. */
  readonly cpuMs: number
}

const keys: StoredKey[] = []
const keyring = createKeyring({
  store: {
    find: async () => keys,
    insertFirst: async (key, createdAt) => {
      const life = { publishedAt: createdAt, signsFrom: createdAt, retiredAt: null, withdrawnAt: null }
      keys.push({ ...key, ...life, createdAt })
      return keys
    },
    sample: async () => keys,
  },
  maker: createKeyMaker({ masterKey: randomBytes(32) }),
  now: () => new Date(),
})
const client = createGuardedClient({ allowedNetworks: ['127.0.0.0/8'] })

async function run({ uri, algorithm, concurrency, ...limit }: BareQuestion): Promise<BareAnswer> {
  const signer = await keyring.signer('bench' as IssuerName, algorithm)
  const binding = { clientId: 'rp' as never, subject_claims: 'both', session_required: false } as const
  const event = {
    iss: 'https://idp.example' as Issuer,
    sub: 'alice' as Subject,
    scope: 'subject',
    lane: 'interactive',
    acceptedAt: new Date(),
    traceparent: null,
  } as const
  const cpu = process.cpuUsage()
  const startedMs = performance.now()
  const endMs = 'seconds' in limit ? startedMs + limit.seconds * 1_000 : Number.POSITIVE_INFINITY
  const postsMax = 'posts' in limit ? limit.posts : Number.POSITIVE_INFINITY
  let started = 0
  let posts = 0
  const loop = async () => {
    while (performance.now() < endMs && started < postsMax) {
      started += 1
      const claims = logoutTokenClaims(
        { sid: null, event: { ...event, givenId: randomUUID() as GivenEventId } },
        binding,
        { now: new Date(), jti: randomUUID() },
      )
      const answer = await client.post({
        uri,
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
        body: `logout_token=${await signer.sign(LOGOUT_TOKEN_TYPE, claims)}`,
        timeoutMs: 10_000,
        allowedNetworks: null,
      })
      if (answer.kind !== 'response') throw new Error(JSON.stringify(answer))
      posts += 1
    }
  }
  await Promise.all(Array.from({ length: concurrency }, loop))
  const { user, system } = process.cpuUsage(cpu)
  return { rate: posts / ((performance.now() - startedMs) / 1_000), cpuMs: (user + system) / 1_000 / posts }
}

process.on('message', (question: BareQuestion) => {
  void run(question).then((result) => process.send?.(result))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
