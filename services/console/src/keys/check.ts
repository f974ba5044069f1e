import { KeysCheck, type Scope } from '@curfew/contract'
import {
  CLOCK_SKEW_MS,
  KEY_LEAD_MS,
  KEYRING_REFRESH_MS,
  keyState,
  keyTimes,
  rotationDue,
  signingKey,
  TOKEN_LIFETIME_S,
} from '@curfew/domain'
import {
  type Database,
  findKeyRotation,
  findSigningKeys,
  hasRelayedEvents,
  type SigningKeyRecord,
} from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import type { HttpServer, RouteAccess } from '@curfew/runtime'
import { publishedKeys, thumbprintOf } from '@curfew/tokens'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import { type Finding, fetchKeySets } from './key-sets.ts'
import { relayFindings } from './relay-findings.ts'
import { ofAlgorithm } from './view.ts'

export interface KeysCheckDeps {
  readonly db: Database
  readonly client: Pick<GuardedClient, 'get'>
  now(): Date
}

/** `GET /v1/issuers/{issuer}/keys/check`: whether the IdP publishes our keys in its key set, where RPs fetch them. */
export function registerKeysCheck(server: HttpServer, { db, client, now }: KeysCheckDeps): void {
  server.get(
    '/v1/issuers/:issuer/keys/check',
    {
      config: { scope: 'clients:read', access: 'path', cost: 10 } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'checkSigningKeys',
        tags: ['Signing keys'],
        summary:
          "Check whether the IdP's own key set has Curfew's keys. Relying parties verify tokens with that key set.",
        params: IssuerParams,
        response: { 200: KeysCheck },
      },
    },
    async (request) => {
      const issuer = await issuerOr404(db, request.params.issuer)
      const all = await findSigningKeys(db, issuer.name)
      const at = now()
      const sets = await fetchKeySets(client, issuer)
      const { discovery, published } = sets
      const theirs = published?.keys == null ? null : await readKeys(published.keys)
      const keys = await Promise.all(
        publishedKeys(all, at).map(async (key) => ({
          kid: key.kid,
          alg: key.algorithm,
          state: stateOf(key, all, at),
          ...(await findingOf(key, {
            all,
            theirs,
            isExample: sets.isExample,
            now: at,
            uri: published?.uri ?? null,
            ours: `/issuers/${issuer.name}/jwks.json`,
          })),
        })),
      )
      const rotation = scheduleFinding(all, { everyDays: await findKeyRotation(db, issuer.name), now: at })
      const isRelayed =
        issuer.relay.jwksUri !== null ||
        (await hasRelayedEvents(db, issuer.iss, new Date(at.getTime() - DAY_MS)))
      const relay = isRelayed ? relayFindings(issuer, sets, keys) : null
      const fetched = published?.finding ?? null
      const findings: readonly (Finding | null)[] = [
        ...[discovery, fetched, rotation, ...keys],
        ...(relay === null ? [] : [relay.keys, relay.retries]),
      ]
      return {
        ok: findings.every((finding) => finding === null || finding.ok),
        issuer: issuer.name,
        iss: issuer.iss,
        checked_at: at.toISOString(),
        jwks_uri: published?.uri ?? null,
        discovery,
        jwks: fetched,
        rotation,
        keys,
        relay,
      }
    },
  )
}

/** The kid and thumbprint of each key. An invalid key has no thumbprint. */
async function readKeys(
  keys: readonly unknown[],
): Promise<readonly { kid: unknown; thumbprint: string | null }[]> {
  return Promise.all(
    keys.map(async (key) => {
      const { kid } = Object(key) as { readonly kid?: unknown }
      const thumbprint = await thumbprintOf(Object(key)).catch(() => null)
      return { kid, thumbprint }
    }),
  )
}

async function findingOf(
  key: SigningKeyRecord,
  {
    all,
    theirs,
    isExample,
    now,
    uri,
    ours,
  }: {
    all: readonly SigningKeyRecord[]
    theirs: Awaited<ReturnType<typeof readKeys>> | null
    isExample: boolean
    now: Date
    uri: string | null
    ours: string
  },
): Promise<Finding> {
  if (theirs === null && isExample)
    return { ok: true, what: `No IdP publishes it. Relying parties can fetch it at ${ours}.`, fix: null }
  if (theirs === null)
    return {
      ok: false,
      what: 'It is not known whether the IdP publishes it.',
      fix: 'Correct the findings above first.',
    }
  const thumbprint = await thumbprintOf(key.publicJwk)
  const same = theirs.filter(({ kid }) => kid === key.kid)
  const merge = `Merge ${ours} into the key set of the IdP at ${uri}`
  // An identity provider may publish a key twice.
  if (same.length > 0 && same.every((other) => other.thumbprint === thumbprint))
    return { ok: true, what: 'The IdP publishes it.', fix: null }
  if (same.length > 0) {
    const what =
      'The IdP publishes another key with the same kid, so relying parties refuse the tokens of one of the keys.'
    return { ok: false, what, fix: `Remove the other key, or give it another kid. ${merge}.` }
  }
  if (theirs.some((other) => other.thumbprint === thumbprint)) {
    const what =
      'The IdP publishes it with another kid, so relying parties do not find it by the kid of its tokens.'
    return { ok: false, what, fix: `${merge}, and keep the kid.` }
  }
  const { signsUntil } = keyTimes(key, ofAlgorithm(all, key.algorithm))
  const state = stateOf(key, all, now)
  if (state === 'previous' && signsUntil !== null) {
    const over = new Date(signsUntil.getTime() + TOKENS_OVER_MS)
    if (over <= now)
      return {
        ok: true,
        what: 'The IdP does not publish it any more, and all its tokens have expired.',
        fix: null,
      }
    const what =
      'It does not sign any more and the IdP does not publish it, but tokens that it signed may still be under way.'
    return { ok: false, what, fix: `${merge}, or wait: it is not needed after ${over.toISOString()}.` }
  }
  if (state === 'next') {
    const what = `The IdP does not publish it yet, and it signs from ${key.signsFrom.toISOString()}.`
    return { ok: false, what, fix: `${merge} before that time.` }
  }
  const what = 'The IdP does not publish it, so relying parties refuse its tokens.'
  return { ok: false, what, fix: `${merge}.` }
}

/** A rotation that is late by this time, in milliseconds, is a fault. The bookkeeper checks the schedule every minute. */
const OVERDUE_MS = 3_600_000
const DAY_MS = 86_400_000

/** Whether the bookkeeper rotates keys on schedule; null without a schedule. */
function scheduleFinding(
  all: readonly SigningKeyRecord[],
  { everyDays, now }: { everyDays: number | null; now: Date },
): Finding | null {
  if (everyDays === null) return null
  const overdue = [...new Set(all.map(({ algorithm }) => algorithm))].filter((algorithm) => {
    const related = ofAlgorithm(all, algorithm)
    if (signingKey(related, now)?.source !== 'generated') return false
    const due = rotationDue(related, { now, everyMs: everyDays * DAY_MS, leadMs: KEY_LEAD_MS })
    return due !== null && due.getTime() + OVERDUE_MS <= now.getTime()
  })
  if (overdue.length === 0)
    return { ok: true, what: `Generated keys are rotated every ${everyDays} days.`, fix: null }
  const what = `Generated keys should be rotated every ${everyDays} days, but a rotation is overdue: ${overdue.join(', ')}.`
  return { ok: false, what, fix: 'Check that a bookkeeper runs, and look for errors in its log.' }
}

/**
 * After this time, in milliseconds, all tokens of a key have expired: workers have stopped using the key, and the last tokens are
 * too old.
 */
const TOKENS_OVER_MS = KEYRING_REFRESH_MS + TOKEN_LIFETIME_S * 1_000 + 2 * CLOCK_SKEW_MS

function stateOf(key: SigningKeyRecord, all: readonly SigningKeyRecord[], now: Date): string {
  return keyState(key, ofAlgorithm(all, key.algorithm), now)
}
