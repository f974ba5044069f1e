import { type AttemptOutcome, errorClassOf, type InFlightDelivery } from '@curfew/domain'
import { type Log, traceIdOf } from '@curfew/runtime'
import type { Round, Try } from '../attempt/attempt.ts'
import type { RegistryCache } from '../intake/registry-cache.ts'

/** Logs a settled round: one line for each attempt. @param recorded whether the ledger stored the outcome. */
export type RoundLog = (delivery: InFlightDelivery, round: Round, recorded: boolean) => void

export function createRoundLog({
  log,
  registry,
}: {
  readonly log: Log
  readonly registry: Pick<RegistryCache, 'current'>
}): RoundLog {
  /** The members that all lines of a delivery share. */
  const about = (delivery: InFlightDelivery, round: Round) => {
    // Null after its client was removed.
    const binding = registry.current().bindings.get(delivery.bindingId) ?? null
    const { iss, givenId, traceparent } = delivery.event
    return {
      delivery_id: delivery.id,
      event_id: givenId,
      issuer: binding?.issuer ?? null,
      iss,
      client_id: binding?.clientId ?? null,
      binding_id: delivery.bindingId,
      channel: round.channel,
      trace_id: traceparent === null ? null : traceIdOf(traceparent),
    }
  }

  return (delivery, round, recorded) => {
    const { settlement, attempts } = round
    const level = levelOf(round, recorded)
    // Acknowledgements are the most frequent lines.
    if (level === 'info' && attempts.length <= 1 && !log.isLevelEnabled('info')) return
    const shared = about(delivery, round)
    for (const attempt of attempts.slice(0, -1)) {
      log.warn({
        event: 'delivery.attempted',
        ...shared,
        ...describe(attempt, delivery),
        ...{ state: null, reason: null, due_at: null, recorded },
      })
    }
    const last = attempts.at(-1)
    log[level]({
      ...(last === undefined
        ? { event: 'delivery.lapsed', ...shared }
        : { event: 'delivery.attempted', ...shared, ...describe(last, delivery) }),
      state: settlement.state,
      reason: settlement.state === 'dead_lettered' ? settlement.reason : null,
      due_at: settlement.state === 'pending' ? settlement.dueAt.toISOString() : null,
      recorded,
    })
  }
}

/** A delivery that has ended well is no news; one that is tried again may be, and a dead letter needs a person. */
function levelOf({ settlement }: Round, recorded: boolean): 'info' | 'warn' | 'error' {
  if (settlement.state === 'dead_lettered') return 'error'
  return settlement.state === 'pending' || !recorded ? 'warn' : 'info'
}

/** An attempt without anything that the RP could have filled with a token or a subject. */
function describe({ number, uri, outcome, durationMs }: Try, delivery: InFlightDelivery) {
  return {
    endpoint: uri === null ? null : withoutSecrets(uri),
    attempt: number,
    outcome: outcome.kind,
    status: 'status' in outcome ? outcome.status : null,
    error: errorOf(outcome, delivery),
    duration_ms: Math.round(durationMs),
  }
}

const URI_LENGTH_MAX = 300

/** A URI without its query, and without a user and password. */
function withoutSecrets(uri: string): string {
  const end = uri.search(/[?#]/)
  const bare = end === -1 ? uri : uri.slice(0, end)
  return bare.replace(/^([a-z]+:\/\/)[^/]*@/i, '$1').slice(0, URI_LENGTH_MAX)
}

/** Words such as `invalid_request`. Identifiers and tokens have digits, or are longer. */
const ERROR_CODE = /^[a-z]+(?:[_.:-][a-z]+)*$/i
const ERROR_CODE_LENGTH_MAX = 64

/**
 * The `error` of the RP if it is a code, or the class of the failure. An RP may answer any text, such as the subject or the token
 * that it received, so other texts stay in the ledger, where reading them needs a scope.
 */
function errorOf(outcome: AttemptOutcome, { sid, event }: InFlightDelivery): string | null {
  const said = 'error' in outcome ? outcome.error : null
  const isCode = said !== null && said.length <= ERROR_CODE_LENGTH_MAX && ERROR_CODE.test(said)
  if (!isCode) return errorClassOf(outcome)
  const names = (value: string | null | undefined) => value != null && shareWord(said, value)
  return names(sid) || names(event.sub) || names(event.email) ? errorClassOf(outcome) : said
}

/** Words that are shorter than this are in too many names. */
const WORD_LENGTH_MIN = 3

/** Whether a code has a word of a name, or the whole name: an RP may answer the user name of an email address. */
function shareWord(code: string, name: string): boolean {
  const [said, named] = [code.toLowerCase(), name.toLowerCase()]
  const words = named.split(/[^\p{L}\p{N}]+/u).filter(({ length }) => length >= WORD_LENGTH_MIN)
  return [named, ...words].some((word) => said.includes(word))
}
