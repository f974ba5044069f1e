import type { StoredAttempt } from '../logout/records.ts'
import type { DeadLetterReason } from './delivery.ts'

/** The last POST of a dead letter, as far as it is known. */
export type LastAttempt = Pick<StoredAttempt, 'status' | 'errorClass' | 'error' | 'errorDescription'>

/** A dead letter in words, for a person who can do something about it. Each is one or two whole sentences. */
export interface DeadLetterWords {
  /** What went wrong. */
  readonly what: string
  /** What would mend it. */
  readonly fix: string
}

/** How a channel names its protocol, and the setting that has the address of its endpoint. */
export interface ChannelNames {
  readonly protocol: string
  readonly address: string
}

const ANY_CHANNEL: ChannelNames = { protocol: 'logout', address: 'address of the endpoint' }

type Words = (last: LastAttempt | null, channel: ChannelNames) => DeadLetterWords

const REGISTER_AGAIN = 'register the relying party again'

const WORDS: Readonly<Record<DeadLetterReason, Words>> = {
  attempts_exhausted: (last) => ({
    what: `Every attempt of the schedule failed${lastly(last)}.`,
    fix: `${mend(last)} Then replay.`,
  }),
  refused: (last) => ({
    what: `The relying party refused the message, or failed to log out, each time${lastly(last)}.`,
    fix: 'Find in its log why it did so, and mend that. Then replay.',
  }),
  misconfigured: (last, { protocol, address }) => ({
    what: `The endpoint answers as none for ${protocol} does${lastly(last)}.`,
    fix: `Register the right ${address}, or deploy the endpoint there. Then replay.`,
  }),
  endpoint_gone: (_, { address }) => ({
    what: 'The endpoint answered 410 Gone, which says that it will not come back; it was disabled.',
    fix: `With the right ${address}, ${REGISTER_AGAIN}, which enables it. Then replay.`,
  }),
  unreachable: (last) => ({
    what: `The endpoint was down for as long as the whole schedule lasts, and was spared most attempts${lastly(last)}.`,
    fix: `${mend(last)} Then replay.`,
  }),
  unrecordable: () => ({
    what: 'The ledger refused a value of this delivery, so what its last attempt came to is not recorded. The relying party may have been told.',
    fix: "Find the value in the worker's log: the line delivery.unrecordable has this id. Mend its cause, then replay.",
  }),
  address_not_allowed: (last) => ({
    what: `The endpoint is at an address that nothing may be sent to${said(last)}.`,
    fix: 'Move it to a public https address, or allow its network by curfew.allowed_networks or CURFEW_ALLOWED_NETWORKS. Then replay.',
  }),
  binding_disabled: (last) => ({
    what: `The relying party was disabled when the logout was due${said(last)}.`,
    fix: `Enable it: ${REGISTER_AGAIN}, with curfew.enabled true or left out. Then replay.`,
  }),
  client_key_unreadable: () => ({
    what: 'The private key of its client certificate cannot be opened with the master key of this deployment.',
    fix: `Give the workers the CURFEW_MASTER_KEY that it was stored under, or ${REGISTER_AGAIN} with curfew.tls.client_key. Then replay.`,
  }),
  secret_unreadable: () => ({
    what: 'The secret that its endpoint is shown cannot be opened with the master key of this deployment.',
    fix: `Give the workers the CURFEW_MASTER_KEY that it was stored under, or ${REGISTER_AGAIN} with the secret. Then replay.`,
  }),
  client_removed: (_, { protocol, address }) => ({
    what: `The relying party, or its endpoint for ${protocol}, was removed from the registry. The logout goes to the other required channels of the relying party, if it has any.`,
    fix: `If it still has sessions and no other channel, ${REGISTER_AGAIN} with the right ${address}, then replay. Otherwise nothing is left to do.`,
  }),
  no_encryption_key: (last) => ({
    what: `The relying party registered for encrypted tokens, and has no key that they can be encrypted to${said(last)}.`,
    fix: `Have it publish a key for its id_token_encrypted_response_alg at its jwks_uri, or ${REGISTER_AGAIN} with such a key in jwks. Then replay.`,
  }),
  no_signing_key: () => ({
    what: "No key could sign for this issuer in the relying party's algorithm.",
    fix: 'Give the workers the CURFEW_MASTER_KEY that the keys were stored under. Then replay.',
  }),
  later_session: () => ({
    what: 'A token for the subject would have ended a session that the logout is not about, which began later or is on another device, and no other session was known to be named.',
    fix:
      'The person may still be signed in there in a session that was never posted. Once the known one is over,' +
      ' replay; or post a logout of the other by its sid.',
  }),
  sid_required: () => ({
    what: 'The relying party must be told the session (sid), and the logout event named none.',
    fix: 'Have the identity provider post a logout with the sid, for each session.',
  }),
  sub_required: () => ({
    what: 'The relying party must be told the subject (sub), and the logout event named only a session.',
    fix: 'Have the identity provider post the sub with its logouts.',
  }),
  widen_required: () => ({
    what: 'The relying party holds the session, and its channel can only end all sessions of the user, which this logout is not for.',
    fix: 'Post a logout of the subject; or register another channel that can name a session, or that the channel widens such logouts, then replay.',
  }),
  email_required: () => ({
    what: 'The relying party knows its users by their email address, and the logout event came without one.',
    fix: 'Have the identity provider post the email with its logouts. A replay cannot add it: post the logout again with a new id.',
  }),
}

/** Every reason that there is. */
export const DEAD_LETTER_REASONS = Object.keys(WORDS) as readonly DeadLetterReason[]

/**
 * Says what went wrong with a delivery that was given up on, and what would mend it.
 *
 * @param reason as the ledger has it: a newer release may have written one that this one does not know.
 * @param last the last attempt, or null where there was none or it is no longer kept.
 * @param channel the names of its channel.
 */
export function deadLetterWords(
  reason: DeadLetterReason | (string & {}),
  last: LastAttempt | null,
  channel: ChannelNames = ANY_CHANNEL,
): DeadLetterWords {
  if (isKnown(reason)) return WORDS[reason](last, channel)
  return {
    what: `It was given up on as ${reason}, a reason that this release does not know${lastly(last)}.`,
    fix: 'Ask a console of the release that wrote it.',
  }
}

function isKnown(reason: string): reason is DeadLetterReason {
  return Object.hasOwn(WORDS, reason)
}

/** How the last attempt ended, as the tail of a sentence. */
function lastly(last: LastAttempt | null): string {
  if (last === null) return ''
  const how = last.status === null ? NETWORK[last.errorClass ?? '']?.what : `it answered ${last.status}`
  return how === undefined ? said(last) : `; at last ${how}${said(last)}`
}

/** What was said, in brackets. */
function said(last: LastAttempt | null): string {
  const words = [last?.error ?? null, last?.errorDescription ?? null].filter((word) => word !== null)
  return words.length === 0 ? '' : ` (${words.join(': ')})`
}

const CERTIFICATE = 'Mend its certificate, or register the CA that vouches for it as curfew.tls.ca.'
const SERVER = 'See that the relying party is up and answers in time.'

/** What failures without an answer mean, and whose they are. */
export const NETWORK: Readonly<Record<string, { readonly what: string; readonly fix: string }>> = {
  dns: {
    what: 'its name was not found',
    fix: 'Mend its DNS name, or register the right address.',
  },
  connection_refused: {
    what: 'nothing listened there',
    fix: 'Start the relying party, or register the right address.',
  },
  connection_reset: { what: 'it cut the connection', fix: SERVER },
  connect_timeout: {
    what: 'no connection came about in time',
    fix: 'See that it is up and that no firewall stands between.',
  },
  timeout: { what: 'it did not answer in time', fix: 'Make it answer sooner, or raise curfew.timeout_ms.' },
  tls: { what: 'TLS failed', fix: CERTIFICATE },
  invalid_response: { what: 'it did not answer in HTTP', fix: 'Register the right address.' },
  signer: {
    what: 'the signing key could not be had, or did not sign',
    fix: 'See that the ledger answers, and the signer where the key is elsewhere.',
  },
  client_keys: {
    what: 'the keys that its tokens are encrypted to could not be fetched',
    fix: 'See that its jwks_uri answers with a JWK Set, at an address that may be dialled.',
  },
}

function mend(last: LastAttempt | null): string {
  if (last === null) return SERVER
  if (last.status === 429) return 'Let it take more requests, or lower curfew.rate_per_second.'
  if (last.status !== null) return 'Find in its log why it could not answer, and mend that.'
  return NETWORK[last.errorClass ?? '']?.fix ?? SERVER
}
