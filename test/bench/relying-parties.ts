import { openAsker } from './processes.ts'
import type { Answer, Behaviour, Question, Stamp } from './receiver.ts'

/** The relying parties of the benchmark, in their own process. */
export interface RelyingParties {
  /** The endpoint of a client. The clients of a group misbehave together. */
  uriOf(group: string, clientId: string): string
  /** The URI that the bare loop posts to: the same receiver, but no relying party. */
  readonly bareUri: string
  /** The number of logouts answered with 200 so far, without those of the bare loop. */
  count(): Promise<number>
  /** Starts keeping stamps, or forgets them and stops. */
  stamp(on: boolean): Promise<void>
  /** The stamps since the last call. */
  stamps(): Promise<readonly Stamp[]>
  behave(group: string, behaviour: Behaviour): Promise<void>
  /** Refuses connections and closes the open ones, until `listen`. */
  refuse(): Promise<void>
  listen(): Promise<void>
  stop(): void
}

const BARE = 'bare'

/**
 * Starts the relying parties. @param port a port outside the ephemeral range, needed to listen on it again after `refuse`.
 * Default: any.
 */
export async function openRelyingParties(port = 0): Promise<RelyingParties> {
  const receiver = await openAsker<{ port: number }>('./receiver.ts', [String(port)])
  const ask = (question: Question) => receiver.ask<Answer>(question)
  const uriOf = (group: string, clientId: string) =>
    `http://127.0.0.1:${receiver.hello.port}/${group}/${clientId}`
  return {
    uriOf,
    bareUri: uriOf(BARE, 'rp'),
    async count() {
      const { [BARE]: _, ...counts } = (await ask({ ask: 'count' })).counts
      return Object.values(counts).reduce((sum, count) => sum + count, 0)
    },
    stamp: async (on) => void (await ask({ ask: 'stamp', on })),
    stamps: async () => (await ask({ ask: 'stamps' })).stamps,
    behave: async (group, behaviour) => void (await ask({ ask: 'behave', group, behaviour })),
    refuse: async () => void (await ask({ ask: 'refuse' })),
    listen: async () => void (await ask({ ask: 'listen' })),
    stop: receiver.stop,
  }
}
