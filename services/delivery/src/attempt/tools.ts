import { hash } from 'node:crypto'
import type { Tools } from '@curfew/channels'
import {
  type AttemptOutcome,
  type Binding,
  cleanText,
  type InFlightDelivery,
  messageId,
  type SessionToken,
  type TokenEncryption,
} from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import type { Span } from '@curfew/runtime'
import { type ClientKeySealer, type Keyring, type SessionTokenSealer, signAssertion } from '@curfew/tokens'
import type { Encrypter, TlsIdentities } from '@curfew/wiring'
import { contextFor } from './attempt-span.ts'

/** The dependencies of a channel's tools. Time and randomness are passed in. */
export interface ToolsDeps {
  readonly keyring: Pick<Keyring, 'signer'>
  readonly encrypter: Encrypter
  /** The TLS identity of a binding. @throws {ClientKeyError} if its key cannot be opened. */
  readonly tls: TlsIdentities
  /** Opens the secrets of endpoints. */
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly ledger: Pick<DeliveryLedger, 'findSessionTokens'>
  /** Opens the tokens of sessions. */
  readonly sessionTokens: Pick<SessionTokenSealer, 'open'>
  readonly client: Pick<GuardedClient, 'post' | 'send'>
  now(): Date
  newId(): string
}

/** A tool failed, so nothing was sent. `outcome` decides the next state of the delivery. */
export class NotReadyError extends Error {
  readonly outcome: AttemptOutcome

  constructor(outcome: AttemptOutcome, options: ErrorOptions) {
    super('nothing was sent', options)
    this.outcome = outcome
  }
}

const digest = (text: string) => hash('sha256', text, 'hex')

/**
 * Creates the tools for one delivery and the channel of its binding, with its TLS identity open. `encrypted` returns the encryption that the channel
 * used.
 *
 * @param span the attempt, which becomes the parent of the relying party's spans if its registration asks for that.
 * @throws {NotReadyError} as the tools do.
 */
export async function toolsFor(
  deps: ToolsDeps,
  binding: Binding,
  delivery: Pick<InFlightDelivery, 'id' | 'sid'>,
  span: Span,
): Promise<{ readonly tools: Tools; encrypted(): TokenEncryption | null }> {
  const { timeoutMs, allowedNetworks, grantedNetworks, issuer, sealedSecret } = binding
  const tls = await ready(deps.tls(binding))
  const how = { timeoutMs, allowedNetworks, ...(grantedNetworks !== undefined && { grantedNetworks }), tls }
  const traceparent = binding.traceContext ? contextFor(span) : null
  const traced = (headers: Readonly<Record<string, string>>) =>
    traceparent === null ? headers : { ...headers, traceparent }
  const secret = () =>
    ready(deps.clientKeys.open(sealedSecret ?? '', binding), unreadable('secret_unreadable'))
  let used: TokenEncryption | null = null
  const tools: Tools = {
    now: deps.now,
    newId: () => messageId(delivery.id, deps.newId()),
    digest,
    sign: (algorithm, typ, claims) =>
      ready(deps.keyring.signer(issuer, algorithm).then((signer) => signer.sign(typ, claims))),
    encrypt(typ, token, encryption) {
      used = encryption
      return ready(deps.encrypter.encrypt(typ, token, encryption, binding, tls))
    },
    secret,
    assertion: async (algorithm, claims) =>
      ready(signAssertion(await secret(), algorithm, claims), unreadable('secret_unreadable')),
    sessionTokens: () => tokensOf(deps, binding, delivery),
    http: {
      post: (request) => deps.client.post({ ...request, ...how, headers: traced(request.headers) }),
      send: (request) => deps.client.send({ ...request, ...how, headers: traced(request.headers) }),
    },
  }
  return { tools, encrypted: () => used }
}

async function ready<Value>(tool: Promise<Value>, outcomeOf = unready): Promise<Value> {
  try {
    return await tool
  } catch (error) {
    throw new NotReadyError(outcomeOf(error), { cause: error })
  }
}

const unreadable =
  (reason: 'secret_unreadable' | 'token_unreadable') =>
  (error: unknown): AttemptOutcome => ({ kind: 'undeliverable', reason, detail: detailOf(error) })

/** The tokens of the session that a delivery names. */
async function tokensOf(
  { ledger, sessionTokens }: Pick<ToolsDeps, 'ledger' | 'sessionTokens'>,
  { iss, clientId }: Binding,
  { id, sid }: Pick<InFlightDelivery, 'id' | 'sid'>,
): Promise<readonly SessionToken[]> {
  if (sid === null) return []
  const sealed = await ready(ledger.findSessionTokens({ deliveryId: id, clientId }))
  const owner = { iss, sid, clientId }
  const opened = sealed.map((one) => ready(sessionTokens.open(one, owner), unreadable('token_unreadable')))
  return (await Promise.all(opened)).flat()
}

/**
 * The message of an error, cleaned. It may repeat the answer of a signer or of an RP's jwks_uri, with characters that cannot be
 * stored.
 */
function detailOf(error: unknown): string {
  return cleanText(error instanceof Error ? error.message : String(error)) ?? ''
}

/**
 * The outcome when a tool failed and nothing was sent. A key that does not open needs a person. An unavailable store is retried.
 */
export function unready(error: unknown): AttemptOutcome {
  const detail = detailOf(error)
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'ERR_SIGNING_KEY') return { kind: 'undeliverable', reason: 'no_signing_key', detail }
  if (code === 'ERR_CLIENT_KEY') return { kind: 'undeliverable', reason: 'client_key_unreadable', detail }
  if (code === 'ERR_NO_ENCRYPTION_KEY') return { kind: 'undeliverable', reason: 'no_encryption_key', detail }
  return {
    kind: 'unavailable',
    status: null,
    failure: code === 'ERR_CLIENT_KEYS_UNAVAILABLE' ? 'client_keys' : 'signer',
    retryAfterMs: null,
    error: null,
    errorDescription: detail,
  }
}
