import type { ReceiptBundle } from '@curfew/contract'
import type { Checkpoint, ReceiptClaims } from '@curfew/domain'
import {
  hashedWith,
  isConsistent,
  isIncluded,
  readLogKey,
  type TrustedLogKey,
  verifyCheckpoint,
  verifyReceipt,
} from '@curfew/tokens'

/** The result of one check. */
export interface Finding {
  readonly check: 'signature' | 'inclusion' | 'consistency' | 'subject'
  /** `not_asked`: the check was not requested, and its inputs are missing. */
  readonly result: 'yes' | 'no' | 'not_asked'
  readonly detail: string
}

export interface CheckedReceipt {
  /** Whether every requested check succeeded. */
  readonly ok: boolean
  readonly findings: readonly Finding[]
  /** The claims; null if the key did not sign the receipt. */
  readonly claims: ReceiptClaims | null
  readonly key: TrustedLogKey
  /** Whether the person gave the key. False if it came with the receipt. */
  readonly pinned: boolean
}

/** The content of a receipt file: a receipt alone, or with everything that an offline check needs. */
export type ReceiptFile = { readonly jws: string } | { readonly bundle: ReceiptBundle }

/** The subject and session that a receipt should name; null for no check. */
export interface ExpectedSubject {
  readonly sub: string | null
  readonly sid: string | null
}

export function readReceiptFile(text: string): ReceiptFile | null {
  const trimmed = text.trim()
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(trimmed)) return { jws: trimmed }
  try {
    const bundle = Object(JSON.parse(trimmed)) as Partial<ReceiptBundle>
    const { consistency_proof: grown, subject_key: key } = bundle
    const whole =
      typeof bundle.receipt === 'string' &&
      typeof bundle.checkpoint === 'string' &&
      Number.isSafeInteger(bundle.index) &&
      isTexts(bundle.inclusion_proof) &&
      (grown === undefined || isTexts(Object(grown).hashes)) &&
      (key === undefined || typeof key === 'string')
    return whole ? { bundle: bundle as ReceiptBundle } : null
  } catch {
    return null
  }
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/**
 * Checks a receipt offline.
 *
 * @param older an older checkpoint; null to skip the check that the log only grew.
 * @param key the trusted key; null to use the key of the bundle.
 * @param expected the subject and session that the receipt should name.
 * @returns null if there is no key.
 */
export async function checkReceipt(
  file: ReceiptFile,
  {
    older,
    key: given,
    expected,
  }: { older: string | null; key: TrustedLogKey | null; expected: ExpectedSubject },
): Promise<CheckedReceipt | null> {
  const bundle = 'bundle' in file ? file.bundle : null
  const key = given ?? (await readLogKey(JSON.stringify(bundle?.keys ?? null)))
  if (key === null) return null
  const receipt = await verifyReceipt('bundle' in file ? file.bundle.receipt : file.jws, key)
  const findings: Finding[] = [
    receipt === null
      ? { check: 'signature', result: 'no', detail: `The receipt is not signed by key ${key.kid}.` }
      : { check: 'signature', result: 'yes', detail: `The receipt is signed by key ${key.kid}.` },
  ]
  const checkpoint = bundle === null ? null : verifyCheckpoint(bundle.checkpoint, key)
  findings.push(
    bundle === null ? ALONE : inclusion(bundle, receipt, checkpoint),
    older === null ? NO_CHECKPOINT : consistency(bundle, checkpoint, verifyCheckpoint(older, key)),
  )
  for (const member of ['sub', 'sid'] as const) {
    const value = expected[member]
    if (value !== null) findings.push(subject(member, value, receipt?.claims ?? null, bundle))
  }
  return {
    ok: findings.every(({ result }) => result !== 'no'),
    findings,
    claims: receipt?.claims ?? null,
    key,
    pinned: given !== null,
  }
}

const ALONE: Finding = {
  check: 'inclusion',
  result: 'not_asked',
  detail:
    'Whether it is in the receipt log was not checked, because the file has no proof. curfew receipt get fetches it with its proof.',
}
const NO_CHECKPOINT: Finding = {
  check: 'consistency',
  result: 'not_asked',
  detail: 'Whether the receipt log only grew was not checked. Give an older checkpoint with --checkpoint.',
}

function inclusion(
  bundle: ReceiptBundle,
  receipt: { readonly payload: Uint8Array; readonly claims: ReceiptClaims } | null,
  checkpoint: Checkpoint | null,
): Finding {
  const no = (detail: string): Finding => ({ check: 'inclusion', result: 'no', detail })
  if (receipt === null) return no('Not checked, because the receipt is not signed.')
  if (checkpoint === null) return no('The checkpoint is not signed by this key for its receipt log.')
  const { index } = bundle
  const { log } = receipt.claims
  if (log?.origin !== checkpoint.origin || log.index !== index)
    return no(
      `The receipt has index ${log?.index} of ${log?.origin}, but the proof is for another index or log.`,
    )
  const { inclusion_proof: proof } = bundle
  if (!isIncluded(receipt.payload, checkpoint, { index, proof }))
    return no(`The receipt is not entry ${index} of the log of the checkpoint.`)
  const detail = `It is entry ${index} of ${checkpoint.origin}, which had ${checkpoint.size} entries.`
  return { check: 'inclusion', result: 'yes', detail }
}

function consistency(
  bundle: ReceiptBundle | null,
  checkpoint: Checkpoint | null,
  older: Checkpoint | null,
): Finding {
  const no = (detail: string): Finding => ({ check: 'consistency', result: 'no', detail })
  if (bundle === null)
    return no('The file has no checkpoint to compare with. curfew receipt get fetches the receipt with one.')
  if (checkpoint === null) return no('The checkpoint of the receipt is not signed by this key.')
  if (older === null) return no('The given checkpoint is not signed by this key.')
  const { consistency_proof: proof } = bundle
  if (older.size > checkpoint.size)
    return no(
      `The given checkpoint is newer than the receipt: it has ${older.size} entries. Fetch the receipt again.`,
    )
  const needed = older.size > 0 && older.size < checkpoint.size
  if (needed && proof?.from !== older.size)
    return no(
      `The file has no proof from ${older.size} entries on. Fetch it with curfew receipt get --checkpoint FILE.`,
    )
  if (!isConsistent(older, checkpoint, needed ? (proof?.hashes ?? []) : []))
    return no(
      `The log of ${checkpoint.size} entries does not begin with the ${older.size} entries of the given checkpoint.`,
    )
  const detail = `The log begins with all ${older.size} entries of the given checkpoint.`
  return { check: 'consistency', result: 'yes', detail }
}

function subject(
  member: 'sub' | 'sid',
  value: string,
  claims: ReceiptClaims | null,
  bundle: ReceiptBundle | null,
): Finding {
  const no = (detail: string): Finding => ({ check: 'subject', result: 'no', detail })
  const { [member]: plain, [`${member}_hmac` as const]: hashed } = claims?.event ?? {}
  if (plain === undefined && hashed === undefined) return no(`The receipt has no ${member}.`)
  const key = bundle?.subject_key
  if (plain === undefined && key === undefined)
    return no(
      `The ${member} is hashed, and the file does not have the key. Fetch it with curfew receipt get --subject-key.`,
    )
  const same = plain === undefined ? hashedWith(key ?? '')(value) === hashed : plain === value
  return same
    ? { check: 'subject', result: 'yes', detail: `The receipt is about the ${member} ${value}.` }
    : no(`The receipt is not about the ${member} ${value}.`)
}
