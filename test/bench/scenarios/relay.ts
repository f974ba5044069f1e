import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type IdentityProvider, openIdentityProvider } from '../../support/identity-provider.ts'
import { quantile } from '../figures.ts'
import { ISS } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

/** Posts under way at a time in the turns that measure rates. */
const AT_ONCE = 32
/** Posts per second in the turns that measure latency, far below the highest rate. */
const PER_SECOND = 40
const ISSUER = 'main'
const SETTLE_MS = 120_000

/**
 * Compares posts of logout tokens to the relay with posts of logout events, one event each. Compares the time from the IdP's post to
 * the RP's answer with the IdP's direct post to the RP.
 */
export async function relay(settings: Settings): Promise<readonly Row[]> {
  const { rounds, seconds, progress } = settings
  await using idp = await openIdentityProvider({ iss: ISS })
  await using stage = await openStage(settings)
  await stage.subject.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri })
  const [clientId = ''] = await stage.register('relay', 1)
  const turnMs = (seconds * 1_000) / 2
  const rates: { relayed: number; posted: number }[] = []
  const waits: { relayed: readonly number[]; direct: readonly number[] }[] = []
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}: rates`)
    const relayed = await rateOf(turnMs, await tokensFor(idp, clientId, turnMs), (token) =>
      postToken(`${stage.subject.url}/relay/${ISSUER}/${clientId}`, token),
    )
    await settle(stage)
    const posted = await rateOf(turnMs, null, () =>
      stage.subject.client.postLogoutEvent({
        ...{ iss: ISS, sub: randomUUID(), sid: randomUUID(), clients: [clientId] },
      }),
    )
    await settle(stage)
    rates.push({ relayed, posted })
    progress(`round ${round} of ${rounds}: latency`)
    const uri = stage.relyingParties.uriOf('relay', clientId)
    waits.push({
      direct: await answersOf(stage, { idp, clientId, uri, seconds }),
      relayed: await answersOf(stage, {
        ...{ idp, clientId, seconds },
        uri: `${stage.subject.url}/relay/${ISSUER}/${clientId}`,
      }),
    })
  }
  const latency = (q: number): Row => ({
    measured: `from the IdP's post to the RP's answer, p${q * 100} ms`,
    values: waits.map(({ relayed }) => quantile(relayed, q)),
    beside: {
      what: "the IdP's direct post to the RP",
      values: waits.map(({ direct }) => quantile(direct, q)),
    },
  })
  return [
    {
      measured: `posts to the relay, ${AT_ONCE} at once, posts/s`,
      values: rates.map(({ relayed }) => relayed),
      beside: { what: 'POST /v1/logout-events, one event each', values: rates.map(({ posted }) => posted) },
    },
    latency(0.5),
    latency(0.99),
  ]
}

/** Tokens for more posts than a turn can make. They are signed before the turn: the IdP's work is not measured. */
async function tokensFor(
  idp: IdentityProvider,
  clientId: string,
  turnMs: number,
): Promise<readonly string[]> {
  const most = Math.ceil(turnMs * 4)
  return Promise.all(Array.from({ length: most }, () => tokenOf(idp, clientId, `bench ${randomUUID()}`)))
}

function tokenOf(idp: IdentityProvider, clientId: string, txn: string): Promise<string> {
  return idp.token(clientId, { sub: randomUUID(), sid: randomUUID(), txn })
}

async function postToken(uri: string, token: string): Promise<void> {
  const response = await fetch(uri, { method: 'POST', body: new URLSearchParams({ logout_token: token }) })
  await response.arrayBuffer()
  if (response.status !== 200) throw new Error(`${uri} answered ${response.status}`)
}

/** Repeats a post, `AT_ONCE` at a time, for `turnMs` or until the tokens are used up. @returns posts per second. */
async function rateOf(
  turnMs: number,
  tokens: readonly string[] | null,
  post: (token: string) => Promise<unknown>,
): Promise<number> {
  let made = 0
  const startedMs = performance.now()
  const next = async () => {
    while (performance.now() - startedMs < turnMs) {
      const token = tokens === null ? '' : tokens[made]
      if (token === undefined) return
      made += 1
      await post(token)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next))
  return made / ((performance.now() - startedMs) / 1_000)
}

/** The times from a post to the RP's answer, in milliseconds. */
async function answersOf(
  { relyingParties }: Stage,
  how: {
    readonly idp: IdentityProvider
    readonly clientId: string
    readonly uri: string
    readonly seconds: number
  },
): Promise<readonly number[]> {
  const { idp, clientId, uri, seconds } = how
  await relyingParties.stamp(true)
  const postedNs = new Map<string, bigint>()
  for (let n = 0; n < (seconds / 2) * PER_SECOND; n++) {
    const txn = `bench ${randomUUID()}`
    const token = await tokenOf(idp, clientId, txn)
    await sleep(1_000 / PER_SECOND)
    postedNs.set(txn, process.hrtime.bigint())
    await postToken(uri, token)
  }
  const waits: number[] = []
  const endsMs = performance.now() + SETTLE_MS
  while (waits.length < postedNs.size && performance.now() < endsMs) {
    for (const { txn, answeredNs } of await relyingParties.stamps()) {
      const posted = postedNs.get(txn)
      if (posted !== undefined) waits.push(Number(BigInt(answeredNs) - posted) / 1e6)
    }
    await sleep(50)
  }
  await relyingParties.stamp(false)
  if (waits.length < postedNs.size) throw new Error(`${postedNs.size - waits.length} logouts did not arrive`)
  return waits
}

/** Waits until no delivery is pending or in flight. */
async function settle({ db }: Stage): Promise<void> {
  const endsMs = performance.now() + SETTLE_MS
  for (;;) {
    const { rows } = await db.query<{ left: boolean }>(
      "select exists (select from log_records) or exists (select from deliveries where state in ('pending', 'in_flight')) as left",
    )
    if (rows[0]?.left !== true) return
    if (performance.now() > endsMs) throw new Error('the deliveries were not settled')
    await sleep(100)
  }
}
