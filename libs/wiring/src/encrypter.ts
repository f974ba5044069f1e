import { hash } from 'node:crypto'
import {
  accessName,
  type Binding,
  type BindingTls,
  ClientKeysUnavailableError,
  type NetworkAccess,
  NoEncryptionKeyError,
  type TokenEncryption,
} from '@curfew/domain'
import type { FetchedJson, TlsIdentity } from '@curfew/outbound'
import { encryptToken } from '@curfew/tokens'

/** The receiver of a token: its issuer, its address, and the access to its network. */
export type TokenReceiver = Pick<Binding, 'iss' | 'uri' | 'tls'> & NetworkAccess

/** Encrypts tokens for the RPs that registered for it. */
export interface Encrypter {
  /**
   * Encrypts a signed token to a key of its receiver.
   *
   * @param tls the receiver's own TLS identity, with its private key open.
   * @throws {ClientKeysUnavailableError} when the RP's keys cannot be fetched.
   * @throws {NoEncryptionKeyError} when none of them fits.
   */
  encrypt(
    typ: string | null,
    token: string,
    encryption: TokenEncryption,
    peer: TokenReceiver,
    tls: TlsIdentity | null,
  ): Promise<string>
  /** The RP refused a token. Its keys may have changed, so the next token fetches them again. */
  refused(encryption: TokenEncryption, peer: TokenReceiver): void
}

/** The last result of fetching a key set from a `jwks_uri`. */
interface Fetched {
  jwks: unknown
  /** When the key set was fetched; null if never. */
  fetchedMs: number | null
  triedMs: number
  /** Why the last fetch failed. */
  detail: string
  refused: boolean
}

/** How long a key set is used without another fetch, in milliseconds. */
const FRESH_MS = 600_000
/** How long a key set is used while its owner does not answer, in milliseconds. */
const STALE_MS = 24 * 3_600_000
/** Least time between two fetches of one key set, in milliseconds. It spares an RP that answers 400 to everything. */
const PAUSE_MS = 30_000
/** Most key sets kept. The one that was fetched longest ago is dropped first. */
const KEPT_MAX = 10_000

/** @param fetch fetches the JSON at a `jwks_uri`; never rejects. */
export function createEncrypter({
  fetch,
  nowMs,
}: {
  fetch: (uri: string, how: NetworkAccess & { tls: TlsIdentity | null }) => Promise<FetchedJson>
  nowMs: () => number
}): Encrypter {
  const kept = new Map<string, Fetched>()
  const fetching = new Map<string, Promise<Fetched>>()

  async function renew(name: string, uri: string, how: Parameters<typeof fetch>[1]): Promise<Fetched> {
    const before = kept.get(name)
    const answer = await fetch(uri, how)
    const triedMs = nowMs()
    const entry: Fetched = answer.ok
      ? { jwks: answer.value, fetchedMs: triedMs, triedMs, detail: '', refused: false }
      : {
          jwks: before?.jwks ?? null,
          fetchedMs: before?.fetchedMs ?? null,
          triedMs,
          detail: answer.detail,
          refused: false,
        }
    kept.delete(name)
    kept.set(name, entry)
    for (const oldest of kept.keys()) {
      if (kept.size <= KEPT_MAX) break
      kept.delete(oldest)
    }
    return entry
  }

  /** @param again fetches even a fresh key set, unless the last fetch is too recent. */
  async function keysAt(
    uri: string,
    peer: TokenReceiver,
    tls: TlsIdentity | null,
    again: boolean,
  ): Promise<Fetched> {
    const name = nameOf(uri, peer)
    const known = kept.get(name)
    if (known !== undefined) {
      const justTried = nowMs() - known.triedMs < PAUSE_MS
      const fresh = known.fetchedMs !== null && nowMs() - known.fetchedMs < FRESH_MS && !known.refused
      if (justTried || (fresh && !again)) return known
    }
    const { allowedNetworks, grantedNetworks } = peer
    const how = {
      allowedNetworks,
      ...(grantedNetworks !== undefined && { grantedNetworks }),
      tls: isItsOwn(uri, peer) ? tls : null,
    }
    const answer = fetching.get(name) ?? renew(name, uri, how).finally(() => fetching.delete(name))
    fetching.set(name, answer)
    return answer
  }

  async function jwksAt(
    uri: string,
    peer: TokenReceiver,
    tls: TlsIdentity | null,
    again = false,
  ): Promise<unknown> {
    const { jwks, fetchedMs, detail } = await keysAt(uri, peer, tls, again)
    if (fetchedMs !== null && nowMs() - fetchedMs < STALE_MS) return jwks
    throw new ClientKeysUnavailableError(`its jwks_uri ${detail}`)
  }

  return {
    async encrypt(typ, token, encryption, peer, tls) {
      const { iss } = peer
      const { jwksUri: uri } = encryption
      if (uri === null) return encryptToken(token, { ...encryption, iss, typ })
      const jwks = await jwksAt(uri, peer, tls)
      try {
        return await encryptToken(token, { ...encryption, jwks, iss, typ })
      } catch (error) {
        if (!(error instanceof NoEncryptionKeyError)) throw error
        // The RP may have published a new key since the last fetch.
        return encryptToken(token, { ...encryption, jwks: await jwksAt(uri, peer, tls, true), iss, typ })
      }
    },
    refused({ jwksUri: uri }, peer) {
      const known = uri === null ? undefined : kept.get(nameOf(uri, peer))
      if (known !== undefined) known.refused = true
    },
  }
}

/** Whether a key set and the endpoint have the same origin, so that the RP's own TLS settings apply to both. */
function isItsOwn(uri: string, peer: TokenReceiver): boolean {
  return URL.parse(uri)?.origin === URL.parse(peer.uri)?.origin
}

/** Names a key set and the access that fetched it: RPs with other networks or TLS settings do not share it. */
function nameOf(uri: string, peer: TokenReceiver): string {
  const tls = peer.tls !== null && isItsOwn(uri, peer) ? fingerprintOf(peer.tls) : ''
  return `${uri} ${accessName(peer)} ${tls}`
}

const fingerprints = new WeakMap<BindingTls, string>()

function fingerprintOf(tls: BindingTls): string {
  const fingerprint = fingerprints.get(tls) ?? hash('sha256', JSON.stringify(tls))
  fingerprints.set(tls, fingerprint)
  return fingerprint
}
