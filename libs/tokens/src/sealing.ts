import { createHash } from 'node:crypto'
import { CompactEncrypt, type CompactJWEHeaderParameters, compactDecrypt, decodeProtectedHeader } from 'jose'

/** The master key that seals, and one beside it that opens too, for as long as one is replaced by the other. */
export interface MasterKeys {
  /** 32 bytes. */
  readonly current: Uint8Array
  /** 32 bytes, or null. */
  readonly old: Uint8Array | null
}

/** What is sealed is bound to these header members, so that one secret cannot stand in for another. */
export type Binding = Readonly<Record<'kid' | 'iss' | 'sub' | 'typ', string | undefined>>

/** Keeps secrets at rest, each a compact JWE (RFC 7516), direct encryption with A256GCM. */
export interface Vault {
  seal(secret: string, binding: Partial<Binding>): Promise<string>
  /** @returns null when neither master key opens it, or it was tampered with. Whose it is, `header` says. */
  open(sealed: string): Promise<{ readonly secret: string; readonly header: Partial<Binding> } | null>
  /**
   * The same secret under the current master key. @returns `kept` when it lies under that already, null when neither opens it.
   */
  rewrap(sealed: string): Promise<'kept' | { readonly sealed: string } | null>
}

/** Members that say how something is sealed, rather than what it is. */
interface SealHeader extends Partial<Binding> {
  /** Which master key it lies under. What was sealed by releases before does not say. */
  readonly mk?: string
}

/** @throws {RangeError} for a key that is not of 32 bytes. */
export function createVault({ current, old }: MasterKeys): Vault {
  for (const [name, key] of [
    ['CURFEW_MASTER_KEY', current],
    ['CURFEW_MASTER_KEY_OLD', old],
  ] as const) {
    if (key !== null && key.length !== 32) throw new RangeError(`${name} is not of 32 bytes`)
  }
  const keys = [current, ...(old === null ? [] : [old])].map((key) => ({ key, mk: nameOf(key) }))
  const mk = nameOf(current)

  async function openWith(sealed: string) {
    let named: unknown
    try {
      named = decodeProtectedHeader(sealed).mk
    } catch {
      // What is no JWE opens with no key.
      return null
    }
    for (const candidate of keys.filter((each) => named === undefined || each.mk === named)) {
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
        // It lies under the other one, or under none of ours.
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

/** A name for a master key that gives nothing of it away. */
function nameOf(masterKey: Uint8Array): string {
  return createHash('sha256').update('curfew master key\0').update(masterKey).digest('base64url').slice(0, 11)
}

/** A vault for one kind of secret. What cannot be opened is said in that kind's own words. */
export interface Sealer {
  seal: Vault['seal']
  /** @param what the secret in words. @throws where no master key of ours opens it, or it was sealed with another binding. */
  open(sealed: string, binding: Partial<Binding>, what: string): Promise<string>
}

/**
 * @param Refused what is thrown: for a master key that is not of 32 bytes here, and by `open`.
 * @param another what it then was sealed as.
 */
export function createSealer(
  masterKeys: MasterKeys,
  Refused: new (message: string, options?: ErrorOptions) => Error,
  another: string,
): Sealer {
  const vault = openVault(masterKeys, Refused)
  return {
    seal: vault.seal,
    async open(sealed, binding, what) {
      const opened = await vault.open(sealed)
      if (opened === null)
        throw new Refused(`${what} cannot be opened: CURFEW_MASTER_KEY is not the one it was sealed with`)
      const { header, secret } = opened
      const names = Object.keys(binding) as (keyof Binding)[]
      if (names.every((name) => header[name] === binding[name])) return secret
      throw new Refused(`${what} cannot be opened: it was sealed as ${another}`)
    },
  }
}

function openVault(masterKeys: MasterKeys, Refused: new (message: string, options?: ErrorOptions) => Error) {
  try {
    return createVault(masterKeys)
  } catch (error) {
    throw new Refused(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
