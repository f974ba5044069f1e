import { createPrivateKey } from 'node:crypto'
import { readPem, readPrivateKeyPem } from '@curfew/domain'
import { checkSigningJwk, thumbprintOf } from '@curfew/tokens'
import { UsageError } from '../terminal/arguments.ts'
import { readText } from '../terminal/files.ts'

type Jwk = Readonly<Record<string, unknown>>

/** The private key of a file, for the API. */
export interface KeyFile {
  readonly jwk: Jwk
  /** The algorithm that the key does not name itself. */
  readonly alg: string | undefined
  /** Choices that were made for the caller, in sentences. */
  readonly notes: readonly string[]
}

/** `--kid`: the key of the file to import or, for a key without a kid, the kid to give it. `--alg`: its algorithm. */
export interface KeyChoice {
  readonly kid?: string | undefined
  readonly alg?: string | undefined
}

const NEITHER =
  'is neither a JWK, a JWK Set nor a key in PEM. Convert DER with `openssl pkey -inform DER -in FILE`, and PKCS#12 with `openssl pkcs12 -nodes -in FILE`.'

/**
 * Reads the private key of a file, or of standard input for `-`: a JWK, a JWK Set, or PEM (PKCS#8, PKCS#1, SEC1).
 *
 * @throws {UsageError} that never quotes the file.
 */
export async function readKeyFile(path: string, choice: KeyChoice): Promise<KeyFile> {
  return keyIn(await readText(path), { path, ...choice })
}

/** As `readKeyFile`, for a text. @param path names the text in errors. */
export async function keyIn(
  text: string,
  { path, kid, alg }: KeyChoice & { readonly path: string },
): Promise<KeyFile> {
  // String.prototype.trim removes a byte order mark as well.
  const trimmed = text.trim()
  const given = /^[[{]/.test(trimmed) ? null : pemKey(trimmed, path)
  const keys = given === null ? jwksIn(trimmed, path) : [given]
  const notes: string[] = []
  const chosen = await choose(keys, { path, kid, alg, notes })
  const named = kid !== undefined && chosen.kid === undefined && keys.length === 1
  const jwk = named ? { ...chosen, kid } : chosen
  if (alg !== undefined || jwk.kty !== 'RSA' || jwk.alg !== undefined) return { jwk, alg, notes }
  const note =
    'The file does not name the algorithm of this RSA key, so it signs RS256. For another, give --alg, such as PS256.'
  return { jwk, alg: 'RS256', notes: [...notes, note] }
}

function pemKey(text: string, path: string): Jwk {
  if (!text.includes('-----BEGIN ')) throw new UsageError(`${path} ${NEITHER}`)
  const read = readPrivateKeyPem(text)
  if (!read.ok) {
    const labels = readPem(text).blocks.map(({ label }) => label)
    const found = labels.some((label) => label.endsWith('PRIVATE KEY')) || labels.length === 0
    throw new UsageError(
      found ? `${path} ${read.detail}.` : `${path} has no private key: it has a ${labels.join(', ')}.`,
    )
  }
  const damaged = `${path} has a private key that is damaged, or of a kind that no signing algorithm of Curfew uses.`
  try {
    return createPrivateKey(read.key).export({ format: 'jwk' }) as Jwk
  } catch {
    // The message of OpenSSL may quote the key. RSA-PSS and DSA keys have no JWK.
    throw new UsageError(damaged)
  }
}

/** The keys of a JWK, a JWK Set, or a list of JWKs. */
function jwksIn(text: string, path: string): readonly Jwk[] {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch {
    // The parser's message may quote the key, so it is not shown.
    throw new UsageError(`${path} ${NEITHER}`)
  }
  const { keys } = Object(content) as { readonly keys?: unknown }
  const list: readonly unknown[] = Array.isArray(keys) ? keys : Array.isArray(content) ? content : [content]
  return list.filter(isObject)
}

/** Chooses the only private key that can sign, or the one that `kid` names. @throws {UsageError} */
async function choose(
  keys: readonly Jwk[],
  { path, kid, alg, notes }: KeyChoice & { readonly path: string; readonly notes: string[] },
): Promise<Jwk> {
  const [only, ...more] = keys
  // Any fault of a single key is for the server to find.
  if (only !== undefined && more.length === 0 && (kid === undefined || (only.kid ?? kid) === kid)) {
    if (isPrivate(only)) return only
    if (only.kty === undefined)
      throw new UsageError(
        `${path} holds no key: its JSON has no kty. Give a JWK, a JWK Set or a key in PEM.`,
      )
    throw new UsageError(`${path} has no private key. Export it with the private part.`)
  }
  const named = await Promise.all(keys.map(async (jwk) => ({ jwk, name: await nameOf(jwk) })))
  if (kid !== undefined) {
    const [found, ...others] = named.filter(({ name }) => name === kid)
    if (found !== undefined && others.length === 0) return found.jwk
    throw new UsageError(
      `${path} has ${others.length === 0 ? 'no key' : 'several keys'} with the kid ${kid}. It has ${named.map(({ name }) => name).join(', ')}.`,
    )
  }
  const secret = named.filter(({ jwk }) => isPrivate(jwk))
  if (secret.length === 0)
    throw new UsageError(`${path} has no private key. Export the set with private keys.`)
  const [first] = secret
  if (first !== undefined && secret.length === 1) return first.jwk
  const checked = await Promise.all(
    secret.map(async (key) => ({ ...key, fault: await faultOf(key.jwk, alg) })),
  )
  const fitting = checked.filter(({ fault }) => fault === null)
  const passed = checked.filter(({ fault }) => fault !== null).map(({ name, fault }) => `${name} (${fault})`)
  const [fit] = fitting
  if (fit === undefined)
    throw new UsageError(`${path} has no private key that can sign: ${passed.join('; ')}.`)
  if (fitting.length > 1)
    throw new UsageError(
      `${path} has several private keys. Name one with --kid: ${fitting.map(({ name }) => name).join(', ')}.`,
    )
  notes.push(`Of the private keys, only ${fit.name} can sign. Passed over: ${passed.join('; ')}.`)
  return fit.jwk
}

/** The kid of a key or, without one, its RFC 7638 thumbprint. */
async function nameOf(jwk: Jwk): Promise<string> {
  if (typeof jwk.kid === 'string') return jwk.kid
  return thumbprintOf(jwk).catch(() => 'a key that cannot be read')
}

/** Why a private key cannot be imported; null if it can. An RSA key may be without an algorithm. */
async function faultOf(jwk: Jwk, alg: string | undefined): Promise<string | null> {
  const algorithm = alg ?? (jwk.kty === 'RSA' && jwk.alg === undefined ? 'RS256' : undefined)
  const checked = await checkSigningJwk(jwk, { algorithm, part: 'private' })
  return checked.ok
    ? null
    : checked.faults.map(({ member, detail }) => `${member} ${detail}`.trim()).join(', ')
}

/** Whether a key has a private part. A shared secret counts: its fault names the way out. */
function isPrivate({ d, k }: Jwk): boolean {
  return d !== undefined || k !== undefined
}

function isObject(value: unknown): value is Jwk {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
