import { hash } from 'node:crypto'
import type { Tools } from '@curfew/channels'
import { type AttemptOutcome, type Binding, cleanText, type TokenEncryption } from '@curfew/domain'
import type { GuardedClient } from '@curfew/outbound'
import type { ClientKeySealer, Keyring } from '@curfew/tokens'
import type { Encrypter, TlsIdentities } from '@curfew/wiring'

/** What the tools of a channel are made of. Time and randomness are handed in. */
export interface ToolsDeps {
  readonly keyring: Pick<Keyring, 'signer'>
  readonly encrypter: Encrypter
  /** TLS of the binding's own. @throws {ClientKeyError} when its key cannot be opened. */
  readonly tls: TlsIdentities
  /** Opens the secrets of endpoints. */
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly client: Pick<GuardedClient, 'post'>
  now(): Date
  newId(): string
}

/** A tool of ours could not be had, so nothing was sent. `outcome` says what follows. */
export class NotReadyError extends Error {
  readonly outcome: AttemptOutcome

  constructor(outcome: AttemptOutcome, options: ErrorOptions) {
    super('nothing was sent', options)
    this.outcome = outcome
  }
}

const digest = (text: string) => hash('sha256', text, 'hex')

/**
 * What the channel of a binding works with, and how it encrypted what it sent. The binding's TLS is open.
 *
 * @throws {NotReadyError} as the tools do.
 */
export async function toolsFor(
  deps: ToolsDeps,
  binding: Binding,
): Promise<{ readonly tools: Tools; encrypted(): TokenEncryption | null }> {
  const { timeoutMs, allowedNetworks, grantedNetworks, issuer, sealedSecret } = binding
  const tls = await ready(deps.tls(binding))
  const how = { timeoutMs, allowedNetworks, ...(grantedNetworks !== undefined && { grantedNetworks }), tls }
  let used: TokenEncryption | null = null
  const tools: Tools = {
    now: deps.now,
    newId: deps.newId,
    digest,
    sign: (algorithm, typ, claims) =>
      ready(deps.keyring.signer(issuer, algorithm).then((signer) => signer.sign(typ, claims))),
    encrypt(typ, token, encryption) {
      used = encryption
      return ready(deps.encrypter.encrypt(typ, token, encryption, binding, tls))
    },
    secret: () => ready(deps.clientKeys.open(sealedSecret ?? '', binding), secretUnreadable),
    http: { post: (request) => deps.client.post({ ...request, ...how }) },
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

function secretUnreadable(error: unknown): AttemptOutcome {
  return { kind: 'undeliverable', reason: 'secret_unreadable', detail: detailOf(error) }
}

/** An error repeats what a signer or an RP's jwks_uri answered, be it text that nothing can keep. */
function detailOf(error: unknown): string {
  return cleanText(error instanceof Error ? error.message : String(error)) ?? ''
}

/** Nothing could be sent: a key that does not open is a person's to mend; a store that is away comes back. */
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
