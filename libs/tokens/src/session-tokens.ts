import { type Session, type SessionToken, SessionTokensError } from '@curfew/domain'
import { createSealer } from './sealing.ts'

/** The session that tokens belong to. */
export type TokenOwner = Pick<Session, 'iss' | 'sid' | 'clientId'>

/**
 * Encrypts the tokens of sessions with the master key, bound to the session of the client. Ingest seals them, so the event log has no
 * token in plain text.
 */
export interface SessionTokenSealer {
  /** @returns a compact JWE (RFC 7516), direct encryption with A256GCM. */
  seal(tokens: readonly SessionToken[], owner: TokenOwner): Promise<string>
  /**
   * @throws {SessionTokensError} if another master key or another session's binding sealed the text, or the text was changed.
   */
  open(sealed: string, owner: TokenOwner): Promise<readonly SessionToken[]>
}

/** The `typ` that tells these tokens from other secrets under the same master key. */
const TYPE = 'curfew-session-tokens'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens tokens, but seals none, during a rotation of the master key.
 * @throws {SessionTokensError} if a master key is not 32 bytes long.
 */
export function createSessionTokenSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): SessionTokenSealer {
  const keys = { current: masterKey, old: oldMasterKey }
  const sealer = createSealer(keys, SessionTokensError, 'the tokens of another session')
  const bindingOf = ({ iss, sid, clientId }: TokenOwner) => ({ typ: TYPE, iss, sub: sid, kid: clientId })
  return {
    seal: (tokens, owner) => sealer.seal(JSON.stringify(tokens), bindingOf(owner)),
    async open(sealed, owner) {
      const name = `the tokens of a session of ${owner.clientId} at ${owner.iss}`
      return JSON.parse(await sealer.open(sealed, bindingOf(owner), name)) as SessionToken[]
    },
  }
}
