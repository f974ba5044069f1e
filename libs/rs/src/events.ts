/** A change of the state of a feed, or a failure to change it. */
export type RevocationsEvent =
  /** All live entries were read. */
  | { readonly type: 'snapshot'; readonly seq: number; readonly entries: number }
  /** An answer was applied. `added`: the number of entries that were news. */
  | { readonly type: 'refreshed'; readonly seq: number; readonly added: number }
  /** No answer could be used. `failures`: the failures since the last good answer. `retryInMs`: the pause before the next try. */
  | { readonly type: 'failed'; readonly error: Error; readonly failures: number; readonly retryInMs: number }
  /** Logouts may be missing from now on: requests are decided by the policy of their route. */
  | { readonly type: 'stale'; readonly asOf: Date | null }
  /** The state is up to date again, or for the first time. */
  | { readonly type: 'fresh'; readonly asOf: Date }
  /** The wall clock of this machine is off by more than a minute. The feed does without it; the `exp` of tokens does not. */
  | { readonly type: 'clock'; readonly aheadMs: number }
  /** A token is older than `max_token_ttl`, so the logouts that end it may be forgotten. Set `max_token_ttl` of the issuer. */
  | { readonly type: 'outlived'; readonly ageS: number; readonly maxTokenTtlS: number }

/** Writes the events that a person must act on. */
export function warn(event: RevocationsEvent): void {
  if (event.type === 'stale')
    console.warn(
      `curfew: the logouts of the issuer are not up to date (as of ${event.asOf?.toISOString() ?? 'never'})`,
    )
  if (event.type === 'fresh') console.warn(`curfew: the logouts of the issuer are up to date`)
  if (event.type === 'failed' && event.failures === 1) console.warn(`curfew: ${event.error.message}`)
  if (event.type === 'clock')
    console.warn(
      `curfew: the clock of this machine is ${Math.round(event.aheadMs / 1_000)} s ahead of Curfew`,
    )
  if (event.type === 'outlived')
    console.warn(
      `curfew: a token is ${event.ageS} s old, and max_token_ttl of the issuer is ${event.maxTokenTtlS} s. Raise max_token_ttl: a logout that ended the token may be forgotten.`,
    )
}
