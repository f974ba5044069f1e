import { AnswerRefusedError } from '../errors.ts'
import type { Cutoffs } from '../rule.ts'
import type { Dated, Freshness } from './freshness.ts'
import { keyOf, type Table } from './table.ts'

/** A verified answer of the feed. */
export interface Answer extends Dated {
  /** The number after which the entries begin; null: a snapshot, which has all live entries. */
  readonly after: number | null
  /** The number of the last entry that the answer covers. */
  readonly seq: number
  readonly maxTokenTtlS: number
  /** The time of the last logout of all subjects, in whole seconds since 1970; 0 without one. */
  readonly everybodyBefore: number
  readonly entries: readonly (readonly [key: string, before: number])[]
}

/** The logouts that a process knows. */
export interface FeedState extends Cutoffs {
  /** The number up to which the feed is applied; null before the first answer. */
  readonly seq: number | null
  /** The longest life of a token, in seconds; 0 before the first answer. */
  readonly maxTokenTtlS: number
  /**
   * Applies an answer.
   *
   * @param asked the number after which the answer was to begin; null for a snapshot.
   * @returns the number of entries that were news, and whether the answer is newer than all before.
   * @throws {AnswerRefusedError} if the answer is one to another question, or an old snapshot. Then nothing changes.
   */
  apply(
    answer: Answer,
    asked: number | null,
    nowMs: number,
  ): { readonly added: number; readonly newer: boolean }
  /** Goes on from an earlier number, whose snapshot is known already. */
  rewind(seq: number): void
  /** Forgets the entries that concern no living token any more. */
  forget(nowMs: number): void
}

/** Verifiers accept expired tokens for a moment, because clocks differ. Entries are kept that much longer. */
export const CLOCK_TOLERANCE_S = 60

/**
 * Creates the state of one feed. No answer takes an entry away: after Curfew was restored from a backup, its snapshot may lack entries
 * that were read before. An entry ends only when the last token that it concerns has expired.
 */
export function createFeedState(
  issuer: string,
  { table, freshness }: { readonly table: Table; readonly freshness: Freshness },
): FeedState {
  const key = Buffer.alloc(16)
  let seq: number | null = null
  let maxTokenTtlS = 0
  let everybodyBefore = 0

  function refuseOther({ after, seq: last, asOfMs }: Answer, asked: number | null): void {
    if (after !== asked || last < (asked ?? 0))
      throw new AnswerRefusedError('the answer is one to another question, perhaps from a cache')
    if (asked === null && asOfMs < (freshness.asOfMs ?? 0))
      throw new AnswerRefusedError('the snapshot is older than what is known, perhaps from a cache')
  }

  return {
    get seq() {
      return seq
    },
    get maxTokenTtlS() {
      return maxTokenTtlS
    },
    get everybodyBefore() {
      return everybodyBefore
    },
    of: (kind, value) => table.get(keyOf(issuer, kind, value)),
    apply(answer, asked, nowMs) {
      refuseOther(answer, asked)
      table.reserve(Math.max(table.size, answer.entries.length))
      let added = 0
      for (const [text, before] of answer.entries) {
        key.write(text, 'base64url')
        if (table.put(key, before)) added++
      }
      if (answer.everybodyBefore > everybodyBefore) {
        everybodyBefore = answer.everybodyBefore
        added++
      }
      seq = answer.seq
      // A shorter life is true of new tokens only.
      maxTokenTtlS = Math.max(maxTokenTtlS, answer.maxTokenTtlS)
      return { added, newer: freshness.note(answer, nowMs) }
    },
    rewind(to) {
      seq = to
    },
    forget(nowMs) {
      const earliest = Math.floor(freshness.curfewMs(nowMs) / 1_000) - maxTokenTtlS - CLOCK_TOLERANCE_S
      if (!Number.isFinite(earliest)) return
      table.forget(earliest)
      if (everybodyBefore < earliest) everybodyBefore = 0
    },
  }
}
