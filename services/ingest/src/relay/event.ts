import { hash } from 'node:crypto'
import { AcceptedLogoutEvent } from '@curfew/contract'
import {
  type Digest,
  eventIdOf,
  type LogoutEvent,
  type RelayedToken,
  relayedEventId,
  type Sid,
  type Subject,
} from '@curfew/domain'
import { createValidator } from '@curfew/runtime'
import type { RelayedVerification } from '@curfew/wiring'
import { Type } from 'typebox'

export type Claims = Extract<RelayedVerification, { readonly ok: true }>['claims']

const digest: Digest = (text) => hash('sha256', text)

const { iss, sub, sid } = AcceptedLogoutEvent.properties
/** The claims that become members of the event. The SDK has checked only that they are text. */
const Members = Type.Object({ iss, sub, sid, clients: AcceptedLogoutEvent.properties.clients })
/** Compiled once per process, because that takes milliseconds. */
const check = createValidator(Members)
/** Longest `txn` that an event carries. A longer one is left out: it only helps to find the logout in logs. */
const TXN_LENGTH_MAX = 255
/** The characters of a `txn` that an event carries. The ledger would refuse an event with a NUL. */
const TXN = /^[^\p{Cc}\p{Cs}]+$/u

/**
 * Makes the logout event of a relayed token. A token with a `sid` ends that session, another one every session of the subject.
 *
 * @param claims of the token, checked by the rules for relying parties.
 * @returns the event, or the fault of a claim that an event cannot carry.
 */
export function eventOf(claims: Claims, relayed: RelayedToken, acceptedAt: Date): LogoutEvent | string {
  const { iss, sub, sid, jti, iat, txn } = claims
  const { clientId } = relayed
  const [fault] = check({ iss, sub, sid, clients: [clientId] })
  if (fault !== undefined) return `${fault.pointer.slice(1)} ${fault.detail}`
  if (iat < 0) return 'iat is before 1970'
  const issuer = iss as LogoutEvent['iss']
  const givenId = relayedEventId({ iss: issuer, clientId, jti, iat }, digest)
  const base = {
    ...{ id: eventIdOf(issuer, givenId, digest), givenId, iss: issuer },
    ...{ reason: null, initiator: null, includeInitiator: false, clients: [clientId] },
    ...{ lane: 'interactive' as const, occurredAt: new Date(iat * 1_000), acceptedAt, relayed },
    ...(txn !== undefined && txn.length <= TXN_LENGTH_MAX && TXN.test(txn) && { txn }),
  }
  const subject = (sub ?? null) as Subject | null
  if (sid !== undefined) return { ...base, scope: 'session', sid: sid as Sid, sub: subject }
  return { ...base, scope: 'subject', sub: subject as Subject, sid: null }
}
