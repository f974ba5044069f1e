import { KeysCheck, type Scope } from '@curfew/contract'
import {
  CLOCK_SKEW_MS,
  issuerNetworkAccess,
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
  type IssuerRecord,
  type SigningKeyRecord,
} from '@curfew/ledger'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import type { HttpServer, RouteAccess } from '@curfew/runtime'
import { publishedKeys, thumbprintOf } from '@curfew/tokens'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import { networksOf } from '../registry/networks.ts'
import { ofAlgorithm } from './view.ts'

export interface KeysCheckDeps {
  readonly db: Database
  readonly client: Pick<GuardedClient, 'get'>
  now(): Date
}

type Finding = KeysCheck['discovery']

/** `GET /v1/issuers/{issuer}/keys/check`: whether RPs find our keys where they look for them, at the IdP. */
export function registerKeysCheck(server: HttpServer, { db, client, now }: KeysCheckDeps): void {
  server.get(
    '/v1/issuers/:issuer/keys/check',
    {
      config: { scope: 'clients:read', access: 'path', cost: 10 } satisfies RouteAccess<Scope>,
      schema: {
        summary: "Whether the IdP's own key set has our keys: relying parties verify against that one.",
        params: IssuerParams,
        response: { 200: KeysCheck },
      },
    },
    async (request) => {
      const issuer = await issuerOr404(db, request.params.issuer)
      const all = await findSigningKeys(db, issuer.name)
      const at = now()
      const published = await fetchPublished(client, issuer)
      const theirs = published.jwks === null ? null : await readKeys(published.jwks)
      const keys = await Promise.all(
        publishedKeys(all, at).map(async (key) => ({
          kid: key.kid,
          alg: key.algorithm,
          state: stateOf(key, all, at),
          ...(await findingOf(key, {
            all,
            theirs,
            now: at,
            uri: published.uri,
            ours: `/issuers/${issuer.name}/jwks.json`,
          })),
        })),
      )
      const rotation = scheduleFinding(all, { everyDays: await findKeyRotation(db, issuer.name), now: at })
      const findings: readonly (Finding | null)[] = [
        published.discovery,
        published.fetched,
        rotation,
        ...keys,
      ]
      return {
        ok: findings.every((finding) => finding === null || finding.ok),
        issuer: issuer.name,
        iss: issuer.iss,
        checked_at: at.toISOString(),
        jwks_uri: published.uri,
        discovery: published.discovery,
        jwks: published.fetched,
        rotation,
        keys,
      }
    },
  )
}

interface Published {
  readonly uri: string | null
  readonly discovery: Finding
  readonly fetched: Finding | null
  readonly jwks: readonly unknown[] | null
}

/** The IdP's key set, by way of its discovery document (OpenID Connect Discovery 4). */
async function fetchPublished(
  client: Pick<GuardedClient, 'get'>,
  registered: IssuerRecord,
): Promise<Published> {
  const { iss } = registered
  const how = issuerNetworkAccess(networksOf(registered))
  const address = `${iss.replace(/\/$/, '')}/.well-known/openid-configuration`
  const wrong = (what: string, fix: string): Published => ({
    uri: null,
    discovery: { ok: false, what, fix },
    fetched: null,
    jwks: null,
  })
  const document = await fetchJson(client, address, how)
  if (!document.ok) {
    const fix =
      'See that the IdP answers there, at an address that Curfew may dial (CURFEW_ALLOWED_NETWORKS, defaults.allowed_networks).'
    return wrong(`The discovery document ${address} could not be had: ${document.detail}.`, fix)
  }
  const { issuer, jwks_uri: uri } = Object(document.value) as {
    readonly issuer?: unknown
    readonly jwks_uri?: unknown
  }
  if (issuer !== iss) {
    // Where only an unbound admin could send anything, a tenant reads nothing of the document.
    const said =
      document.restricted === true ? 'another' : (JSON.stringify(issuer) ?? 'nothing').slice(0, 200)
    const what = `The discovery document says issuer ${said}, and ${iss} is registered here. It must be the same, byte for byte.`
    return wrong(what, 'Register the iss that is in ID tokens.')
  }
  if (typeof uri !== 'string')
    return wrong('The discovery document has no jwks_uri.', 'Have the IdP publish one.')
  const discovery = { ok: true, what: `The discovery document ${address} is of this issuer.`, fix: null }
  const keySet = await fetchJson(client, uri, how)
  const { keys } = Object(keySet.ok ? keySet.value : null) as { readonly keys?: unknown }
  if (!keySet.ok || !Array.isArray(keys)) {
    const why = keySet.ok ? 'is no JWK Set' : `could not be had: ${keySet.detail}`
    const fix = 'See that the IdP answers there with a JWK Set.'
    return { uri, discovery, fetched: { ok: false, what: `The key set ${uri} ${why}.`, fix }, jwks: null }
  }
  const what = `The key set ${uri} has ${keys.length === 1 ? 'one key' : `${keys.length} keys`}.`
  return { uri, discovery, fetched: { ok: true, what, fix: null }, jwks: keys }
}

/** Keys as they are told apart. What is no key is none. */
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
    now,
    uri,
    ours,
  }: {
    all: readonly SigningKeyRecord[]
    theirs: Awaited<ReturnType<typeof readKeys>> | null
    now: Date
    uri: string | null
    ours: string
  },
): Promise<Finding> {
  if (theirs === null)
    return {
      ok: false,
      what: 'Whether it is published there is not known.',
      fix: 'Mend what is said above first.',
    }
  const thumbprint = await thumbprintOf(key.publicJwk)
  const same = theirs.filter(({ kid }) => kid === key.kid)
  const merge = `Merge ${ours} into what the IdP publishes at ${uri}`
  if (same.some((each) => each.thumbprint === thumbprint) && same.length === 1)
    return { ok: true, what: 'It is published there.', fix: null }
  if (same.length > 0) {
    const what =
      'Another key is published there under its kid: its tokens are refused, or tokens of the other.'
    return { ok: false, what, fix: `Take the other key away or give it a kid of its own. ${merge}.` }
  }
  if (theirs.some((each) => each.thumbprint === thumbprint)) {
    const what =
      'It is published there under another kid: relying parties do not find it by the kid of its tokens.'
    return { ok: false, what, fix: `${merge}, the kid as it is.` }
  }
  const { signsUntil } = keyTimes(key, ofAlgorithm(all, key.algorithm))
  const state = stateOf(key, all, now)
  if (state === 'previous' && signsUntil !== null) {
    const over = new Date(signsUntil.getTime() + TOKENS_OVER_MS)
    if (over <= now)
      return {
        ok: true,
        what: 'It is not published there any more, and all that it signed has expired.',
        fix: null,
      }
    const what = 'It signs no more and is not published there, but what it signed may still be under way.'
    return { ok: false, what, fix: `${merge}, or wait: after ${over.toISOString()} it is not needed.` }
  }
  if (state === 'next') {
    const what = `It is not published there yet, and signs from ${key.signsFrom.toISOString()}.`
    return { ok: false, what, fix: `${merge} before then.` }
  }
  const what = 'It is not published there: relying parties refuse what it signs.'
  return { ok: false, what, fix: `${merge}.` }
}

/** The bookkeeper looks every minute; after so long it is not at it. */
const OVERDUE_MS = 3_600_000
const DAY_MS = 86_400_000

/** Whether the bookkeeper does what the schedule asks. */
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
    return { ok: true, what: `Generated keys turn every ${everyDays} days.`, fix: null }
  const what = `Keys shall turn every ${everyDays} days, and the next is overdue: ${overdue.join(', ')}.`
  return { ok: false, what, fix: 'See that a bookkeeper runs, and what its log says.' }
}

/** After so long nothing that a key signed is valid any more: workers have heard that it is over, and tokens have expired. */
const TOKENS_OVER_MS = KEYRING_REFRESH_MS + TOKEN_LIFETIME_S * 1_000 + 2 * CLOCK_SKEW_MS

function stateOf(key: SigningKeyRecord, all: readonly SigningKeyRecord[], now: Date): string {
  return keyState(key, ofAlgorithm(all, key.algorithm), now)
}
