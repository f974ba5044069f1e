import type { StoredAttempt } from '../logout/records.ts'
import type { DeadLetterReason } from './delivery.ts'

/** The known result of the last attempt of a dead letter. */
export type LastAttempt = Pick<
  StoredAttempt,
  'status' | 'errorClass' | 'error' | 'errorDescription' | 'location'
>

/** An explanation of a dead letter for the person who can act on it. Each member is one or more whole sentences. */
export interface DeadLetterWords {
  /** The fault. */
  readonly what: string
  /** How to correct it. */
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
    fix: `${fixFor(last)} Then replay.`,
  }),
  refused: (last) => ({
    what: `The relying party refused the message, or failed to log out, at every attempt${lastly(last)}.`,
    fix: 'Find the reason in its log, and correct it. Then replay.',
  }),
  misconfigured: (last, { protocol, address }) => ({
    what: `The address does not answer like an endpoint for ${protocol}${lastly(last)}.`,
    fix: isRedirect(last)
      ? `${REDIRECT_FIX} Then replay.`
      : `Register the right ${address}, or deploy the endpoint at the registered address. Then replay.`,
  }),
  endpoint_gone: (_, { address }) => ({
    what: 'The endpoint answered 410 Gone, which means that it will not return, so Curfew disabled the binding.',
    fix: `With the right ${address}, ${REGISTER_AGAIN}, which enables the binding. Then replay.`,
  }),
  unreachable: (last) => ({
    what: `The endpoint was unavailable for the length of the whole schedule, so most attempts were skipped${lastly(last)}.`,
    fix: `${fixFor(last)} Then replay.`,
  }),
  unrecordable: () => ({
    what: 'The ledger refused a value of this delivery, so the result of its last attempt is not recorded. The relying party may have received the logout.',
    fix: "Find the value in the worker's log: the line delivery.unrecordable has this id. Correct its cause, then replay.",
  }),
  address_not_allowed: (last) => ({
    what: `The address of the endpoint is not allowed${said(last)}.`,
    fix: 'Move the endpoint to a public https address, or allow its network with curfew.allowed_networks or CURFEW_ALLOWED_NETWORKS. Then replay.',
  }),
  binding_disabled: (last) => ({
    what: `The relying party was disabled when the logout was due${said(last)}.`,
    fix: `Enable the relying party: ${REGISTER_AGAIN} without curfew.enabled, or with curfew.enabled true. Then replay.`,
  }),
  client_key_unreadable: () => ({
    what: "The workers' CURFEW_MASTER_KEY does not open the private key of the relying party's client certificate.",
    fix: `Give the workers the CURFEW_MASTER_KEY with which the key was stored, or ${REGISTER_AGAIN} with curfew.tls.client_key. Then replay.`,
  }),
  secret_unreadable: () => ({
    what: "The workers' CURFEW_MASTER_KEY does not open the secret that they send to the endpoint.",
    fix: `Give the workers the CURFEW_MASTER_KEY with which the secret was stored, or ${REGISTER_AGAIN} with the secret. Then replay.`,
  }),
  client_removed: (_, { protocol, address }) => ({
    what: `The relying party, or its endpoint for ${protocol}, was removed from the registry. The logout goes to the other required channels of the relying party, if it has any.`,
    fix: `If it still has sessions and no other channel, ${REGISTER_AGAIN} with the right ${address}, then replay. Otherwise there is nothing to do.`,
  }),
  no_encryption_key: (last) => ({
    what: `The relying party registered for encrypted tokens, but has no suitable encryption key${said(last)}.`,
    fix: `Have it publish a key for its id_token_encrypted_response_alg at its jwks_uri, or ${REGISTER_AGAIN} with such a key in jwks. Then replay.`,
  }),
  no_signing_key: () => ({
    what: "No key could sign for this issuer in the relying party's algorithm.",
    fix: 'Give the workers the CURFEW_MASTER_KEY with which the keys were stored. Then replay.',
  }),
  not_fetched: (_, { protocol }) => ({
    what: `The relying party did not fetch its logouts in time (${protocol}).`,
    fix: 'Start the process that fetches them, or correct its credential. Then replay.',
  }),
  later_session: () => ({
    what: 'A token for the subject would have ended a session that the logout is not about: it began later, or is on another device. No other session was known that a token could name.',
    fix: 'The person may still be signed in there in an unposted session. Replay once the known session is over, or post a logout of the unposted session by its sid.',
  }),
  sid_required: () => ({
    what: 'The relying party requires the session (sid), and the logout event named none.',
    fix: 'Have the identity provider post one logout for each session, with its sid.',
  }),
  sub_required: () => ({
    what: 'The relying party takes only the subject (sub). Neither the logout event nor the session index named one that it knows the user by.',
    fix: "Have the identity provider post the sub with its logouts, or post its sessions with the sub of the client's ID tokens. Then post the logout again with a new id: a replay cannot add the sub.",
  }),
  widen_required: () => ({
    what: 'The relying party holds the session, but its channel can only end all sessions of the user, and the logout is not for all of them.',
    fix: 'Post a logout of the subject; or register a channel that can name a session, or allow this channel to widen logouts, then replay.',
  }),
  email_required: () => ({
    what: 'The relying party identifies its users by email address, and the logout event has none.',
    fix: 'Have the identity provider post the email with its logouts. A replay cannot add it, so post the logout again with a new id.',
  }),
  token_required: () => ({
    what: 'The relying party needs the tokens of the session, and the session index has none: the identity provider posted the session without them, or posted its end or a new start of it.',
    fix: 'Have the identity provider post the tokens with each session of this client. Post the session of this logout again with them, then replay.',
  }),
  token_unreadable: () => ({
    what: "The workers' CURFEW_MASTER_KEY does not open the tokens of the session.",
    fix: 'Give ingest and the workers the same CURFEW_MASTER_KEY, or the workers the key with which the tokens were stored as CURFEW_MASTER_KEY_OLD. Then replay.',
  }),
}

/** All dead-letter reasons. */
export const DEAD_LETTER_REASONS = Object.keys(WORDS) as readonly DeadLetterReason[]

/**
 * Explains a dead letter and how to correct its cause.
 *
 * @param reason the reason in the ledger. A newer release may have written a reason that this release does not know.
 * @param last the last attempt; null if there was none, or if retention removed it.
 * @param channel the names of its channel.
 */
export function deadLetterWords(
  reason: DeadLetterReason | (string & {}),
  last: LastAttempt | null,
  channel: ChannelNames = ANY_CHANNEL,
): DeadLetterWords {
  if (isKnown(reason)) return WORDS[reason](last, channel)
  return {
    what: `The delivery became a dead letter for the reason ${reason}, which this release does not know${lastly(last)}.`,
    fix: 'Look at the dead letter with the release that wrote it.',
  }
}

function isKnown(reason: string): reason is DeadLetterReason {
  return Object.hasOwn(WORDS, reason)
}

/** How the last attempt ended, as the end of a sentence. */
function lastly(last: LastAttempt | null): string {
  if (last === null) return ''
  const how = last.status === null ? NETWORK[last.errorClass ?? '']?.what : `it answered ${last.status}`
  if (how === undefined) return said(last)
  const target = last.location === null ? '' : `, a redirect to ${last.location}`
  return `; at the last attempt ${how}${target}${said(last)}`
}

/** Whether the last answer was a redirect (RFC 9110 15.4). Curfew follows none. */
function isRedirect(last: LastAttempt | null): boolean {
  return last !== null && last.status !== null && last.status >= 300 && last.status < 400
}

/** How to correct an endpoint that redirects. Its target is mostly a login page, so the advice is never to register the target. */
const REDIRECT_FIX =
  'Make the endpoint answer without a redirect. A redirect to a login page means that it demands a session: exempt it from that. A redirect to another form of the same address, such as https or a final slash, means that the address is registered in the wrong form.'

/** The error text of the last attempt, in brackets. */
function said(last: LastAttempt | null): string {
  const words = [last?.error ?? null, last?.errorDescription ?? null].filter((word) => word !== null)
  return words.length === 0 ? '' : ` (${words.join(': ')})`
}

const TLS = 'Correct TLS as the text in brackets says. Register a private CA as curfew.tls.ca.'
const SERVER = 'Check that the relying party runs and answers in time.'

/** Failures without an answer, and how to correct them. */
export const NETWORK: Readonly<Record<string, { readonly what: string; readonly fix: string }>> = {
  dns: {
    what: 'its name was not found',
    fix: 'Correct its DNS name, or register the right address.',
  },
  connection_refused: {
    what: 'it refused the connection',
    fix: 'Start the relying party, or register the right address.',
  },
  connection_reset: { what: 'it closed the connection', fix: SERVER },
  connect_timeout: {
    what: 'it accepted no connection in time',
    fix: 'Check that it runs, and that no firewall blocks the connection.',
  },
  timeout: { what: 'it did not answer in time', fix: 'Make it answer sooner, or raise curfew.timeout_ms.' },
  tls: { what: 'TLS failed', fix: TLS },
  invalid_response: {
    what: 'it did not answer in valid HTTP',
    fix: 'Correct its answer, or register the right address.',
  },
  local: {
    what: "Curfew's machine could not open a connection",
    fix: "Correct the limits, the ports or the firewall of Curfew's machine.",
  },
  signer: {
    what: 'the signing key was unavailable, or did not sign',
    fix: 'Check that the ledger answers, and that the signer answers if the key is remote.',
  },
  client_keys: {
    what: 'its encryption keys could not be fetched',
    fix: 'Check that its jwks_uri answers with a JWK Set, at an allowed address.',
  },
}

function fixFor(last: LastAttempt | null): string {
  if (last === null) return SERVER
  if (last.status === 429)
    return 'Let the relying party accept more requests, or lower curfew.rate_per_second.'
  if (last.status !== null) return 'Find the reason in its log, and correct it.'
  return NETWORK[last.errorClass ?? '']?.fix ?? SERVER
}
