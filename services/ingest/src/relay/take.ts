import { encodeLogoutEvent } from '@curfew/contract'
import type { ClientId, LogRecord } from '@curfew/domain'
import { createThrottle, type Log } from '@curfew/runtime'
import type { RelayedTokens } from '@curfew/wiring'
import { send } from '@curfew/wiring'
import { type Claims, eventOf } from './event.ts'
import type { RelayLimits } from './limits.ts'
import type { IsMinted } from './minted.ts'
import type { Addressee, RegistryCopy } from './registry-copy.ts'

/** A logout token that an identity provider posted, with the client that the path names. */
export interface Posted {
  readonly issuer: string
  readonly clientId: ClientId
  readonly token: string
  /** The address of the sender. */
  readonly address: string
  /** Whether the request names Curfew as its sender. */
  readonly fromCurfew: boolean
  readonly traceparent: string
}

/** The outcome of a post, as the metric counts it. */
export const RESULTS = ['appended', 'unverified', 'spooled', 'refused', 'limited', 'unavailable'] as const
export type Result = (typeof RESULTS)[number]

/** The outcome of a post. After `appended`, `unverified` and `spooled` the token is durable. */
export type Taken =
  | { readonly ok: true; readonly result: Extract<Result, 'appended' | 'unverified' | 'spooled'> }
  | {
      readonly ok: false
      readonly result: Exclude<Result, 'appended' | 'unverified' | 'spooled'>
      readonly status: 400 | 429 | 503
      /** The fault and what to do, for the log of the identity provider. It repeats no part of the post. */
      readonly description: string
      readonly retryAfterMs?: number
    }

export interface TakeDeps {
  readonly registry: Pick<RegistryCopy, 'find' | 'findNewer'>
  readonly tokens: RelayedTokens
  readonly limits: RelayLimits
  readonly isMinted: IsMinted
  /** Makes a record durable. */
  readonly store: Store
  readonly log: Log
  readonly now: () => Date
}

/** Makes a record durable, in the event log or in the spool. `unavailable`: in neither. */
export type Store = (record: LogRecord) => Promise<'appended' | 'spooled' | 'unavailable'>

const UNKNOWN = {
  issuer:
    'the path names no registered issuer; correct it at the identity provider, or register the issuer at Curfew',
  client:
    'the path names no registered client of this issuer; correct it at the identity provider, or register the client at Curfew',
}
const MINTED =
  'Curfew itself sent this token: the endpoint that is registered for this client leads back to the relay; register the address of the relying party instead'

/**
 * Creates a function that takes one post: verifies its token, and makes it durable. Identity providers do not repeat a post, so a
 * token is refused only for its own faults. While keys or registry are unavailable, it is stored unverified.
 */
export function createTake(deps: TakeDeps): (posted: Posted) => Promise<Taken> {
  const { registry, tokens, limits, isMinted, store, log, now } = deps
  const isTime = createThrottle()

  async function take(posted: Posted): Promise<Taken> {
    const { issuer, clientId, token, address, fromCurfew, traceparent } = posted
    const acceptedAt = now()
    const addressee = await registry.find(issuer, clientId)
    if (addressee.kind === 'unknown') return refuse(posted, UNKNOWN[addressee.missing], addressee)
    const read = await readToken(addressee, posted, acceptedAt)
    if ('fault' in read) return refuse(posted, read.fault, addressee)
    const { claims, verified } = read
    const event = eventOf(claims, { clientId, token, verified }, acceptedAt)
    if (typeof event === 'string') return refuse(posted, event, addressee)
    const waitMs = verified ? 0 : limits.unverified(address, addressee.kind === 'known' ? issuer : null)
    if (waitMs > 0)
      return limited('too many tokens came while the keys of the issuer were unavailable', waitMs)
    if (await isMinted({ event, jti: claims.jti, fromCurfew })) return refuse(posted, MINTED, addressee)
    const stored = await send(
      { items: [event], parent: traceparent, laneOf: ({ lane }) => lane, encode: encodeLogoutEvent },
      ([record]) => (record === undefined ? Promise.resolve('unavailable' as const) : store(record)),
      (result) => (result === 'unavailable' ? result : null),
    )
    if (stored === 'unavailable') return UNAVAILABLE
    return { ok: true, result: stored === 'appended' && !verified ? 'unverified' : stored }
  }

  /** Verifies a token, or only checks it if its keys are unavailable. */
  async function readToken(
    addressee: Exclude<Addressee, { readonly kind: 'unknown' }>,
    posted: Posted,
    at: Date,
  ): Promise<{ readonly claims: Claims; readonly verified: boolean } | { readonly fault: string }> {
    const { clientId, token } = posted
    if (addressee.kind === 'known') {
      const verification = await tokens.verify(addressee.source, token, at)
      if (verification.ok) return { claims: verification.claims, verified: true }
      if (verification.kind === 'invalid') {
        // The issuer may have another jwks_uri since the registry was read.
        const newer = await registry.findNewer(posted.issuer, clientId, addressee.source)
        if (newer !== null) return readToken({ kind: 'known', source: newer }, posted, at)
        return { fault: verification.description }
      }
    }
    const source = addressee.kind === 'known' ? addressee.source : { clientId }
    const preview = await tokens.preview(source, token, at)
    return preview.ok ? { claims: preview.claims, verified: false } : { fault: preview.description }
  }

  function refuse({ issuer, clientId, address }: Posted, fault: string, { kind }: Addressee): Taken {
    const waitMs = limits.refused(address)
    if (waitMs > 0) return limited('this address has sent too many tokens that were refused', waitMs)
    // Only registered names reach the log, because a stranger can invent others.
    const names = kind === 'known' ? { issuer, client_id: clientId } : {}
    if (isTime(JSON.stringify([names, fault]))) log.warn({ event: 'relay.refused', ...names, fault })
    return { ok: false, result: 'refused', status: 400, description: fault }
  }

  return take
}

const UNAVAILABLE: Taken = {
  ...{ ok: false, result: 'unavailable', status: 503 },
  description: 'Curfew cannot store the token just now; send it again',
  retryAfterMs: 2_000,
}

function limited(fault: string, retryAfterMs: number): Taken {
  return {
    ...{ ok: false, result: 'limited', status: 429, retryAfterMs },
    description: `${fault}; send it again later`,
  }
}
