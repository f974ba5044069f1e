import { hash } from 'node:crypto'
import {
  type Answer,
  type BindingId,
  type EventId,
  eventIdOf,
  type GivenEventId,
  type Issuer,
} from '@curfew/domain'
import type { Random } from './random.ts'
import type { Behaviour, RelyingPartyPlan } from './scenario.ts'
import type { VirtualTime } from './virtual-time.ts'

/** A logout token that an RP received, with its answer. */
export interface Received {
  readonly bindingId: BindingId
  /** The number of the process that sent it. */
  readonly process: number
  readonly atMs: number
  /** The event of the token, by the issuer and the given id in its claims. */
  readonly eventId: EventId
  readonly claims: {
    readonly iss: Issuer
    readonly jti: string
    readonly txn: GivenEventId
    readonly aud: string
    readonly sub?: string
    readonly sid?: string
  }
  /** The status, if it was sent in time for the sender to read it; otherwise null. */
  status: number | null
  /** When the sender had the answer or gave up. */
  endedMs: number | null
}

export interface RelyingParties {
  readonly received: readonly Received[]
  /** Receives a POST. @param uri a registered URI. */
  post(request: { uri: string; body: string; timeoutMs: number }, process: number): Promise<Answer>
}

const REFUSED: Answer = { kind: 'failure', failure: 'connection_refused', detail: 'connect ECONNREFUSED' }
const RESET: Answer = { kind: 'failure', failure: 'connection_reset', detail: 'read ECONNRESET' }
const TOO_LATE: Answer = { kind: 'failure', failure: 'timeout', detail: 'no answer in time' }

/** Relying parties that behave as their plans say, and remember the tokens they received. */
export function createRelyingParties(
  plans: readonly RelyingPartyPlan[],
  { time, random }: { time: VirtualTime; random: Random },
): RelyingParties {
  const byUri = new Map(plans.map((plan) => [plan.binding.uri, plan]))
  const received: Received[] = []

  async function answer(behaviour: Behaviour, timeoutMs: number): Promise<Answer> {
    switch (behaviour.kind) {
      case 'unavailable':
        await time.sleep(2)
        return REFUSED
      case 'hangs':
      case 'late':
        await time.sleep(timeoutMs)
        return TOO_LATE
      case 'flaky':
        await time.sleep(behaviour.latencyMs)
        if (random.chance(behaviour.failing)) return random.chance(0.5) ? RESET : response(503)
        return response(200)
      case 'answers':
        await time.sleep(behaviour.latencyMs)
        return response(behaviour.status, behaviour.retryAfterS)
    }
  }

  return {
    received,
    async post({ uri, body, timeoutMs }, process) {
      const plan = byUri.get(uri)
      if (plan === undefined) throw new Error(`no relying party has the URI ${uri}`)
      const nowMs = time.nowMs()
      const behaviour = plan.phases.find(({ untilMs }) => nowMs < untilMs)?.behaviour ?? {
        kind: 'unavailable',
      }
      const claims = claimsOf(body.slice('logout_token='.length))
      const one: Received = {
        ...{ bindingId: plan.binding.id, process, atMs: nowMs, claims },
        eventId: eventIdOf(claims.iss, claims.txn, (text) => hash('sha256', text)),
        ...{ status: null, endedMs: null },
      }
      received.push(one)
      const given = await answer(behaviour, timeoutMs)
      one.status = given.kind === 'response' ? given.status : null
      one.endedMs = time.nowMs()
      return given
    },
  }
}

/** The claims of a token. A minted token of the simulation is the text of its claims; a token of the IdP has the form of a JWS. */
function claimsOf(token: string): Received['claims'] {
  const [, payload = ''] = token.split('.')
  const text = token.startsWith('{') ? token : Buffer.from(payload, 'base64url').toString()
  return JSON.parse(text) as Received['claims']
}

function response(status: number, retryAfterS?: number): Answer {
  return {
    kind: 'response',
    status,
    retryAfter: retryAfterS === undefined ? null : String(retryAfterS),
    body: '',
  }
}
