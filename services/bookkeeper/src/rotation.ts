import {
  type IssuerName,
  isPublished,
  KEY_LEAD_MS,
  rotation,
  rotationDue,
  type SigningAlgorithm,
  signingKey,
} from '@curfew/domain'
import {
  changeSigningKeys,
  type Database,
  listKeyIssuers,
  type NewSigningKey,
  type SigningKeyChanges,
  type SigningKeyRecord,
} from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Job } from './repeat.ts'

export interface RotationDeps {
  readonly db: Database
  /** Creates a signing key. */
  readonly generateKey: (issuer: IssuerName, algorithm: SigningAlgorithm) => Promise<NewSigningKey>
  readonly now: () => Date
  readonly log: Log
  readonly stopping: AbortSignal
}

/** A key is published a day before it signs, so a check every minute is enough. */
const PAUSE_MS = 60_000
const DAY_MS = 86_400_000
/** The credential in the audit records. */
const CREDENTIAL = 'bookkeeper'

/**
 * Creates the job that rotates signing keys by their schedule and erases private keys that can no longer sign. Only one of
 * several bookkeepers does it at a time.
 */
export function createRotationJob({ db, generateKey, now, log, stopping }: RotationDeps): Job {
  return {
    name: 'rotation',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      for (const issuer of await listKeyIssuers(db)) {
        if (stopping.aborted) break
        const due = await changeSigningKeys(db, issuer, async (changes) => {
          await eraseEnded(changes, now())
          return dueOf(changes, now())
        })
        for (const algorithm of due) {
          // The key is created before anything is locked, because an RSA key takes a while.
          const key = await generateKey(issuer, algorithm)
          const rotated = await changeSigningKeys(db, issuer, (changes) => follow(changes, key, now()))
          if (rotated.length > 0) log.info({ event: 'keys.rotated', issuer, algorithm, kid: key.kid })
        }
      }
      return false
    },
  }
}

/** The algorithms whose signing key is due for rotation. Keys that Curfew did not generate are rotated at their source. */
function dueOf({ keys, everyDays }: SigningKeyChanges, now: Date): readonly SigningAlgorithm[] {
  if (everyDays === null) return []
  return algorithmsOf(keys).filter((algorithm) => {
    const related = ofAlgorithm(keys, algorithm)
    if (signingKey(related, now)?.source !== 'generated') return false
    const due = rotationDue(related, { now, everyMs: everyDays * DAY_MS, leadMs: KEY_LEAD_MS })
    return due !== null && due <= now
  })
}

/** Adds the new key, unless another bookkeeper has rotated meanwhile or an operator has decided otherwise. */
async function follow(
  changes: SigningKeyChanges,
  key: NewSigningKey,
  now: Date,
): Promise<readonly SigningAlgorithm[]> {
  if (!dueOf(changes, now).includes(key.algorithm)) return []
  const decided = rotation(ofAlgorithm(changes.keys, key.algorithm), { now, leadMs: KEY_LEAD_MS })
  if (decided.kind !== 'new' || !(await changes.insert(key, decided))) return []
  await changes.audit({
    credential: CREDENTIAL,
    action: 'key.rotated',
    object: `/v1/issuers/${key.issuer}/keys/${encodeURIComponent(key.kid)}`,
    detail: {
      alg: key.algorithm,
      every_days: changes.everyDays,
      signs_from: decided.signsFrom.toISOString(),
    },
  })
  return [key.algorithm]
}

/**
 * Erases the private part of keys that have left the key set. No RP accepts their signatures, so a private part is only a risk.
 */
async function eraseEnded({ keys, erase }: SigningKeyChanges, now: Date): Promise<void> {
  for (const key of keys) {
    const ended = !isPublished(key, ofAlgorithm(keys, key.algorithm), now)
    if (ended && key.sealedPrivateKey !== '') await erase(key.kid)
  }
}

function algorithmsOf(keys: readonly SigningKeyRecord[]): readonly SigningAlgorithm[] {
  return [...new Set(keys.map(({ algorithm }) => algorithm))]
}

function ofAlgorithm(
  keys: readonly SigningKeyRecord[],
  algorithm: SigningAlgorithm,
): readonly SigningKeyRecord[] {
  return keys.filter((key) => key.algorithm === algorithm)
}
