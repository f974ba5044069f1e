import { setTimeout as pause } from 'node:timers/promises'
import { AnswerRefusedError, FeedUnavailableError } from '../errors.ts'
import type { RevocationsEvent } from '../events.ts'
import type { Freshness } from './freshness.ts'
import type { Fetched, Question } from './request.ts'
import type { Answer, FeedState } from './state.ts'

export interface FollowDeps {
  readonly state: FeedState
  readonly freshness: Freshness
  readonly entries: () => number
  ask(question: Question): Promise<Fetched>
  /** Verifies an answer. */
  read(jws: string): Promise<Answer>
  /** A monotonic clock in milliseconds. */
  now(): number
  random(): number
  /** Gets what happened. Must not throw. */
  note(event: Extract<RevocationsEvent, { type: 'snapshot' | 'refreshed' | 'failed' }>): void
}

const FAILURE_PAUSE_MS = 250
const FAILURE_PAUSE_MS_MAX = 10_000
/** An answer without news that comes sooner did not wait: a cache, or a proxy with a short timeout, is in between. */
const WAITED_MS = 1_000
const QUIET_PAUSE_MS = 100
const QUIET_PAUSE_MS_MAX = 5_000
/** So many answers in a row that are not newer are a failure. */
const OLD_ANSWERS_MAX = 5
const WAIT_S_MAX = 25
/** Looking for entries that are over reads the whole table. */
const FORGET_EVERY_MS = 60_000

/** Reads a snapshot and then what comes after it, until the signal aborts. It never gives up and never rejects. */
export async function follow(deps: FollowDeps, signal: AbortSignal): Promise<void> {
  const round = createRounds(deps)
  let failures = 0
  let quiet = 0
  let old = 0
  while (!signal.aborted) {
    const startedMs = deps.now()
    let pauseMs = 0
    try {
      const { newer, added } = await round(signal)
      old = newer || added > 0 ? 0 : old + 1
      if (old >= OLD_ANSWERS_MAX)
        throw new AnswerRefusedError('Curfew, or a cache before it, gives answers that are not newer')
      failures = 0
      quiet = added > 0 || deps.now() - startedMs >= WAITED_MS ? 0 : quiet + 1
      if (quiet > 0) pauseMs = Math.min(QUIET_PAUSE_MS_MAX, QUIET_PAUSE_MS * 2 ** (quiet - 1))
    } catch (error) {
      if (signal.aborted) return
      failures++
      pauseMs = pauseAfter(error, failures, deps.random())
      const known = error instanceof Error ? error : new Error(String(error))
      deps.note({ type: 'failed', error: known, failures, retryInMs: pauseMs })
    }
    await pause(pauseMs, undefined, { signal }).catch(() => undefined)
  }
}

/** Pauses differ among readers, so that a thousand of them do not come back together. @param random from 0 to 1. */
function pauseAfter(error: unknown, failures: number, random: number): number {
  const asked = error instanceof FeedUnavailableError ? error.retryAfterMs : null
  const own = Math.min(FAILURE_PAUSE_MS_MAX, FAILURE_PAUSE_MS * 2 ** Math.min(failures - 1, 10))
  return Math.round((asked ?? own) * (asked === null ? 0.5 + random / 2 : 1 + random / 2))
}

/** One question and its answer. The returned function rejects if there is no usable answer. */
function createRounds({ state, freshness, entries, ask, read, now, note }: FollowDeps) {
  let snapshot: { readonly etag: string; readonly seq: number } | null = null
  let needed = true
  let forgotMs = now()

  return async (signal: AbortSignal): Promise<{ readonly newer: boolean; readonly added: number }> => {
    const after = needed ? null : state.seq
    // Two questions fit into the allowed age, so that one lost answer makes nothing stale.
    const waitS = Math.min(WAIT_S_MAX, Math.max(1, Math.floor(freshness.maxStalenessMs / 2_000)))
    const fetched = await ask({ after, waitS, etag: snapshot?.etag ?? null, signal })
    if (fetched.kind === 'gone') {
      needed = true
      return { newer: false, added: 0 }
    }
    if (fetched.kind === 'unchanged') {
      // Not signed, so it proves nothing: go on from that snapshot, and take the next one whole.
      if (snapshot !== null) state.rewind(snapshot.seq)
      snapshot = null
      needed = false
      return { newer: false, added: 0 }
    }
    const applied = state.apply(await read(fetched.jws), after, now())
    if (now() - forgotMs >= FORGET_EVERY_MS) {
      forgotMs = now()
      state.forget(forgotMs)
    }
    needed = false
    const seq = state.seq ?? 0
    if (after === null) {
      snapshot = fetched.etag === null ? null : { etag: fetched.etag, seq }
      note({ type: 'snapshot', seq, entries: entries() })
    } else note({ type: 'refreshed', seq, added: applied.added })
    return applied
  }
}
