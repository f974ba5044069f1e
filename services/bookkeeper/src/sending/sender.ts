import {
  type Answer,
  cleanText,
  type NetworkAccess,
  parseRetryAfter,
  type RetryPolicy,
  retryDelayMs,
} from '@curfew/domain'
import { isUnavailable, type WebhookSettlement } from '@curfew/ledger'
import { type GuardedClient, postWebhook, type TlsIdentity } from '@curfew/outbound'
import type { Log } from '@curfew/runtime'

/** A message, ready to be signed and sent. */
export interface Message extends NetworkAccess {
  /** The `webhook-id`. */
  readonly id: string
  readonly url: string
  readonly tls?: TlsIdentity | null
  readonly body: string
  /** The secrets that sign, in their text form. */
  readonly secrets: readonly string[]
}

/** The reason why a message cannot be sent, in words. */
export interface Unsendable {
  readonly error: string
  /** Whether it cannot be sent later either. */
  readonly final: boolean
}

/** Messages of one kind in the ledger. */
export interface MessageSource<Claimed extends { readonly attempt: number }, Receiver> {
  /** The prefix of its log events. */
  readonly name: string
  /** The error of a message whose receiver answered 410. */
  readonly gone: string
  /** Claims due messages for `leaseMs`. @param busy the number of messages that are being sent, by receiver. */
  claim(places: {
    readonly busy: ReadonlyMap<Receiver, number>
    readonly most: number
    readonly leaseMs: number
  }): Promise<readonly Claimed[]>
  receiverOf(claimed: Claimed): Receiver
  prepare(claimed: Claimed): Promise<Message | Unsendable>
  /** Records the outcome of an attempt. @returns false if the message was claimed again. */
  settle(claimed: Claimed, settlement: WebhookSettlement): Promise<boolean>
  /** The members of a log line that say which message it is. */
  logged(claimed: Claimed): Readonly<Record<string, string>>
}

export interface SenderDeps {
  readonly client: Pick<GuardedClient, 'post'>
  /** A message fails at the end of this schedule. */
  readonly policy: RetryPolicy
  readonly log: Log
  /** Receives the result of every attempt. */
  readonly onAttempted: (state: WebhookSettlement['state']) => void
}

export interface Sender {
  /** Claims due messages and starts to send them. Does not wait for the receivers. */
  round(): Promise<void>
  /** Resolves when nothing is being sent. */
  idle(): Promise<void>
}

/**
 * Delays between attempts, as proposed by Standard Webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. In total more
 * than three days.
 */
export const WEBHOOK_SCHEDULE_MS: readonly number[] = [
  5_000,
  ...[5, 30, 120, 300, 600, 840, 1_200, 1_440].map((minutes) => minutes * 60_000),
]
/** Concurrent messages of one bookkeeper to one receiver. Every receiver has its own slots, so that none waits for another. */
const AT_ONCE = 4
const TIMEOUT_MS = 10_000
/** Longer than an attempt can take, including its waits. */
const LEASE_MS = 60_000

/** Creates the sender of a source. When the process is killed, its messages are sent again after their lease. */
export function createSender<Claimed extends { readonly attempt: number }, Receiver>(
  source: MessageSource<Claimed, Receiver>,
  deps: SenderDeps,
): Sender {
  const sending = new Map<Receiver, Set<Promise<void>>>()

  function begin(claimed: Claimed): void {
    const receiver = source.receiverOf(claimed)
    const toReceiver = sending.get(receiver) ?? new Set()
    sending.set(receiver, toReceiver)
    const ended = send(source, deps, claimed)
      .catch((error: unknown) => {
        // The ledger may or may not have the result. The lease expires, and the message is sent again under the same id.
        deps.log.warn({ event: `${source.name}.settle-failed`, ...source.logged(claimed), err: error })
      })
      .then(() => {
        toReceiver.delete(ended)
        if (toReceiver.size === 0) sending.delete(receiver)
      })
    toReceiver.add(ended)
  }

  return {
    async round() {
      const busy = new Map([...sending].map(([receiver, toReceiver]) => [receiver, toReceiver.size]))
      for (const claimed of await source.claim({ busy, most: AT_ONCE, leaseMs: LEASE_MS })) begin(claimed)
    },
    async idle() {
      while (sending.size > 0) await Promise.all([...sending.values()].flatMap((each) => [...each]))
    },
  }
}

async function send<Claimed extends { readonly attempt: number }, Receiver>(
  source: MessageSource<Claimed, Receiver>,
  { client, policy, log, onAttempted }: SenderDeps,
  claimed: Claimed,
): Promise<void> {
  const { attempt } = claimed
  const message = await source.prepare(claimed).catch((error: unknown): Unsendable => {
    if (isUnavailable(error)) throw error
    log.error({ event: `${source.name}.not-prepared`, ...source.logged(claimed), err: error })
    return { error: 'the message could not be prepared; see the log of the bookkeeper', final: false }
  })
  const answer = 'error' in message ? message : await post(client, message)
  const settlement = settlementOf(answer, { attempt, policy, gone: source.gone })
  const settled = await source.settle(claimed, settlement)
  onAttempted(settlement.state)
  if (settled && settlement.state === 'delivered') return
  const { state, status, error } = settlement
  log.warn({
    event: `${source.name}.attempted`,
    ...source.logged(claimed),
    ...{ attempt, state, status, error, recorded: settled },
  })
}

function post(client: Pick<GuardedClient, 'post'>, message: Message): Promise<Answer> {
  return postWebhook(client, { ...message, sentAt: new Date(), timeoutMs: TIMEOUT_MS })
}

/** Decides the next state: any 2xx is a success, 410 ends the message, and everything else is retried. */
function settlementOf(
  answer: Answer | Unsendable,
  { attempt, policy, gone }: { attempt: number; policy: RetryPolicy; gone: string },
): WebhookSettlement {
  const response = 'kind' in answer && answer.kind === 'response' ? answer : null
  const status = response?.status ?? null
  if (status !== null && status >= 200 && status < 300) return { state: 'delivered', status, error: null }
  if (status === 410) return { state: 'failed', status, error: gone, disable: gone }
  const error = cleanText(inWords(answer))
  if ('final' in answer && answer.final) return { state: 'failed', status, error, disable: null }
  const askedMs = parseRetryAfter(response?.retryAfter ?? null, new Date())
  const retryMs = retryDelayMs(policy, { retries: attempt - 1, askedMs, random: Math.random() })
  return retryMs === null
    ? { state: 'failed', status, error, disable: null }
    : { state: 'pending', retryMs, status, error }
}

/** Describes an answer by its status only: its body is not stored. */
function inWords(answer: Answer | Unsendable): string {
  if ('error' in answer) return answer.error
  return answer.kind === 'response' ? `answered ${answer.status}` : answer.detail
}
