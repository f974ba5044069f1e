import { openAsker } from './processes.ts'
import type { Answer, Manner, Question, Stamp } from './receiver.ts'

/** The relying parties of the benchmark, in a process of their own. */
export interface RelyingParties {
  /** The endpoint of a client. Its group is what misbehaves together. */
  uriOf(group: string, clientId: string): string
  /** Where the bare loop posts to: the same receiver, but nobody's endpoint. */
  readonly bareUri: string
  /** Logouts answered with 200 so far, by all of them; those of the bare loop are none. */
  count(): Promise<number>
  /** Begins to keep stamps, or forgets them and keeps no more. */
  stamp(on: boolean): Promise<void>
  /** What was stamped since this was last asked. */
  stamps(): Promise<readonly Stamp[]>
  behave(group: string, manner: Manner): Promise<void>
  /** Refuses connections, and cuts those that are open, until `listen`. */
  refuse(): Promise<void>
  listen(): Promise<void>
  stop(): void
}

const BARE = 'bare'

/** @param port one outside of what the system gives away, for those that are to come back there. Default any. */
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
    behave: async (group, manner) => void (await ask({ ask: 'behave', group, manner })),
    refuse: async () => void (await ask({ ask: 'refuse' })),
    listen: async () => void (await ask({ ask: 'listen' })),
    stop: receiver.stop,
  }
}
