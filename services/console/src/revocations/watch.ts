import type { Issuer } from '@curfew/domain'
import { type Log, type Service, sleep } from '@curfew/runtime'

/** How often the ledger is asked for new entries while a request waits, in milliseconds. */
const POLL_MS = 100
const FAILURE_PAUSE_MS = 1_000

/** The requests that wait for an entry of a feed. */
export interface Watch {
  /**
   * Resolves when the feed has an entry after `after`, when `ms` have passed, when `gone` aborts, or when the service stops.
   *
   * @returns the last number of the feed that is known; `after` if nothing came.
   */
  beyond(
    feed: { readonly iss: Issuer; readonly after: number },
    ms: number,
    gone: AbortSignal,
  ): Promise<number>
  readonly service: Service
}

/** Asks for the last numbers of all awaited feeds together, and wakes the requests that wait for less. */
export function createWatch({
  seqs,
  log,
}: {
  seqs(issuers: readonly Issuer[]): Promise<ReadonlyMap<Issuer, number>>
  log: Log
}): Watch {
  const waiting = new Map<Issuer, Map<(seq?: number) => void, number>>()
  let stopped = false
  let wake: () => void = () => undefined

  async function ask(): Promise<void> {
    const found = await seqs([...waiting.keys()])
    for (const [iss, requests] of waiting) {
      const seq = found.get(iss) ?? 0
      for (const [end, after] of [...requests]) if (after < seq) end(seq)
    }
  }

  return {
    async beyond({ iss, after }, ms, gone) {
      if (stopped || gone.aborted) return after
      const { promise, resolve } = Promise.withResolvers<number>()
      const requests = waiting.get(iss) ?? new Map<(seq?: number) => void, number>()
      const abort = () => end()
      const end = (seq = after) => {
        clearTimeout(timer)
        gone.removeEventListener('abort', abort)
        requests.delete(end)
        if (requests.size === 0) waiting.delete(iss)
        resolve(seq)
      }
      const timer = setTimeout(abort, ms)
      gone.addEventListener('abort', abort)
      requests.set(end, after)
      waiting.set(iss, requests)
      wake()
      return promise
    },
    service: {
      name: 'cutoff feeds',
      async run({ stopping, ready }) {
        ready()
        stopping.addEventListener('abort', () => wake(), { once: true })
        while (!stopping.aborted) {
          if (waiting.size === 0) {
            const { promise, resolve } = Promise.withResolvers<void>()
            wake = resolve
            if (!stopping.aborted) await promise
            continue
          }
          try {
            await ask()
            await sleep(POLL_MS, stopping)
          } catch (error) {
            log.warn({ event: 'revocations.watch-failed', err: error })
            await sleep(FAILURE_PAUSE_MS, stopping)
          }
        }
        stopped = true
        for (const requests of [...waiting.values()]) for (const end of [...requests.keys()]) end()
      },
    },
  }
}
