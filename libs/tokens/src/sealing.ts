import { createHash } from 'node:crypto'
import { CompactEncrypt, type CompactJWEHeaderParameters, compactDecrypt, decodeProtectedHeader } from 'jose'

/** The master keys of a deployment. There are two of them only during a rotation. */
export interface MasterKeys {
  /** Seals and opens secrets. 32 bytes. */
  readonly current: Uint8Array
  /** Opens secrets that are not sealed again yet. 32 bytes, or null. */
  readonly old: Uint8Array | null
}

/** The header members that a sealed secret is bound to, so that one secret cannot replace another. */
export type Binding = Readonly<Record<'kid' | 'iss' | 'sub' | 'typ', string | undefined>>

/** Encrypts secrets for storage, each as a compact JWE (RFC 7516) with direct encryption and A256GCM. */
export interface Vault {
  seal(secret: string, binding: Partial<Binding>): Promise<string>
  /** @returns the secret and, in `header`, its binding. Null if neither master key opens it, or it was changed. */
  open(sealed: string): Promise<{ readonly secret: string; readonly header: Partial<Binding> } | null>
  /**
   * Seals the same secret with the current master key.
   *
   * @returns `kept` if the current master key sealed it already, null if neither master key opens it.
   */
  rewrap(sealed: string): Promise<'kept' | { readonly sealed: string } | null>
}

/** The header of a sealed secret. */
interface SealHeader extends Partial<Binding> {
  /** The name of the master key that sealed it. Secrets that earlier releases sealed do not have it. */
  readonly mk?: string
}

/** @throws {RangeError} if a key is not 32 bytes long. */
export function createVault({ current, old }: MasterKeys): Vault {
  for (const [name, key] of [
    ['CURFEW_MASTER_KEY', current],
    ['CURFEW_MASTER_KEY_OLD', old],
  ] as const) {
    if (key !== null && key.length !== 32)
      throw new RangeError(`${name} must be 32 bytes long, but has ${key.length}`)
  }
  const keys = [current, ...(old === null ? [] : [old])].map((key) => ({ key, mk: nameOf(key) }))
  const mk = nameOf(current)

  async function openWith(sealed: string) {
    let named: unknown
    try {
      named = decodeProtectedHeader(sealed).mk
    } catch {
      // The text is not a JWE.
      return null
    }
    for (const candidate of keys.filter((key) => named === undefined || key.mk === named)) {
      try {
        const { plaintext, protectedHeader } = await compactDecrypt(sealed, candidate.key, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        return {
          secret: new TextDecoder().decode(plaintext),
          header: protectedHeader as SealHeader,
          by: candidate.mk,
        }
      } catch {
        // Another master key sealed it, or it was changed.
      }
    }
    return null
  }

  const encrypt = (secret: string, header: Omit<CompactJWEHeaderParameters, 'alg' | 'enc'>) =>
    new CompactEncrypt(new TextEncoder().encode(secret))
      .setProtectedHeader({ ...header, alg: 'dir', enc: 'A256GCM', mk })
      .encrypt(current)

  return {
    seal: (secret, binding) => encrypt(secret, binding as Record<string, string>),
    open: openWith,
    async rewrap(sealed) {
      const opened = await openWith(sealed)
      if (opened === null) return null
      return opened.by === mk
        ? 'kept'
        : { sealed: await encrypt(opened.secret, opened.header as Record<string, string>) }
    },
  }
}

/** A name for a master key: a hash that reveals nothing about the key. */
function nameOf(masterKey: Uint8Array): string {
  return createHash('sha256').update('curfew master key\0').update(masterKey).digest('base64url').slice(0, 11)
}

/** A vault for one kind of secret, with the error class of that kind. */
export interface Sealer {
  seal: Vault['seal']
  /** @param name the secret in words, for the error. @throws if no master key opens it, or it was sealed with another binding. */
  open(sealed: string, binding: Partial<Binding>, name: string): Promise<string>
}

/**
 * Creates a sealer.
 *
 * @param SealError the class of errors that this function throws for a master key that is not 32 bytes long, and that `open`
 *   throws.
 * @param another words for a secret of the same kind with another binding, for the error.
 */
export function createSealer(
  masterKeys: MasterKeys,
  SealError: new (message: string, options?: ErrorOptions) => Error,
  another: string,
): Sealer {
  const vault = openVault(masterKeys, SealError)
  return {
    seal: vault.seal,
    async open(sealed, binding, name) {
      const opened = await vault.open(sealed)
      if (opened === null)
        throw new SealError(
          `${name} cannot be opened: set CURFEW_MASTER_KEY or CURFEW_MASTER_KEY_OLD to the key that sealed it`,
        )
      const { header, secret } = opened
      const members = Object.keys(binding) as (keyof Binding)[]
      if (members.every((member) => header[member] === binding[member])) return secret
      throw new SealError(`${name} cannot be opened: it was sealed as ${another}`)
    },
  }
}

function openVault(
  masterKeys: MasterKeys,
  SealError: new (message: string, options?: ErrorOptions) => Error,
) {
  try {
    return createVault(masterKeys)
  } catch (error) {
    throw new SealError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
