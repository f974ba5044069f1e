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

/** One thing that was to be checked, and what came of it. */
export interface Finding {
  readonly check: 'signature' | 'inclusion' | 'consistency' | 'subject'
  /** `not_asked`: it was not asked for, and could not be said of what there is. */
  readonly result: 'yes' | 'no' | 'not_asked'
  readonly detail: string
}

export interface CheckedReceipt {
  /** Whether all that was asked for is as it should be. */
  readonly ok: boolean
  readonly findings: readonly Finding[]
  /** Null where the signature is not of the key. */
  readonly claims: ReceiptClaims | null
  readonly key: TrustedLogKey
  /** Whether the key came from whoever asks, and not with the receipt. */
  readonly pinned: boolean
}

/** What a file holds: a receipt alone, or with all that it is checked by. */
export type ReceiptFile = { readonly jws: string } | { readonly bundle: ReceiptBundle }

/** Of whom a receipt should be. */
export interface Whom {
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
  return Array.isArray(value) && value.every((each) => typeof each === 'string')
}

/**
 * Checks a receipt with nothing but what is given.
 *
 * @param older a checkpoint that was kept; null: nothing is said of what the log was before.
 * @param key the one to trust; null: the bundle's own.
 * @param whom somebody whom it should be of; nothing is said of what is null.
 * @returns null where there is no key to check with.
 */
export async function checkReceipt(
  file: ReceiptFile,
  { older, key: given, whom }: { older: string | null; key: TrustedLogKey | null; whom: Whom },
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
    if (whom[member] !== null) findings.push(subject(member, whom[member], receipt?.claims ?? null, bundle))
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
    'Whether it is in the log was not checked: this is a receipt alone. curfew receipt get has all of it.',
}
const NO_CHECKPOINT: Finding = {
  check: 'consistency',
  result: 'not_asked',
  detail: 'Whether the log only grew was not checked: give --checkpoint with one that was kept.',
}

function inclusion(
  bundle: ReceiptBundle,
  receipt: { readonly payload: Uint8Array; readonly claims: ReceiptClaims } | null,
  checkpoint: Checkpoint | null,
): Finding {
  const no = (detail: string): Finding => ({ check: 'inclusion', result: 'no', detail })
  if (receipt === null) return no('Of what is not signed it does not matter whether it is in the log.')
  if (checkpoint === null) return no('The checkpoint is not signed by this key in the name of its log.')
  const { index } = bundle
  const { log } = receipt.claims
  if (log?.origin !== checkpoint.origin || log.index !== index)
    return no(`The receipt is of place ${log?.index} of ${log?.origin}; the proof is of another.`)
  const { inclusion_proof: proof } = bundle
  if (!isIncluded(receipt.payload, checkpoint, { index, proof }))
    return no(`The receipt is not entry ${index} of the log that the checkpoint is of.`)
  const detail = `It is entry ${index} of ${checkpoint.origin}, which had ${checkpoint.size} entries.`
  return { check: 'inclusion', result: 'yes', detail }
}

function consistency(
  bundle: ReceiptBundle | null,
  checkpoint: Checkpoint | null,
  older: Checkpoint | null,
): Finding {
  const no = (detail: string): Finding => ({ check: 'consistency', result: 'no', detail })
  if (bundle === null) return no('A receipt alone says nothing of the log. curfew receipt get has all of it.')
  if (checkpoint === null) return no('The checkpoint beside the receipt is not signed by this key.')
  if (older === null) return no('The checkpoint that was kept is not one that this key has signed.')
  const { consistency_proof: proof } = bundle
  if (older.size > checkpoint.size)
    return no(`The checkpoint that was kept is newer: of ${older.size} entries. Fetch the receipt again.`)
  const needed = older.size > 0 && older.size < checkpoint.size
  if (needed && proof?.from !== older.size)
    return no(
      `There is no proof from ${older.size} entries on. curfew receipt get --checkpoint FILE brings it.`,
    )
  if (!isConsistent(older, checkpoint, needed ? (proof?.hashes ?? []) : []))
    return no(
      `The log of ${checkpoint.size} entries does not begin with the one of ${older.size} that was kept.`,
    )
  const detail = `The log begins with all ${older.size} entries of the checkpoint that was kept.`
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
  if (plain === undefined && hashed === undefined) return no(`The receipt names no ${member}.`)
  const key = bundle?.subject_key
  if (plain === undefined && key === undefined)
    return no(
      `The ${member} is hashed, and the key to it is not here. curfew receipt get --subject-key brings it.`,
    )
  const same = plain === undefined ? hashedWith(key ?? '')(value) === hashed : plain === value
  return same
    ? { check: 'subject', result: 'yes', detail: `It is of the ${member} ${value}.` }
    : no(`It is not of the ${member} ${value}.`)
}
