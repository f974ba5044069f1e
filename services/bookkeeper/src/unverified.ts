import { hash } from 'node:crypto'
import { AcceptedLogoutEvent, decodeLogoutEvent } from '@curfew/contract'
import type { Digest } from '@curfew/domain'
import {
  type Database,
  findUnverified,
  readRelayRegistry,
  requeueUnverified,
  type UnverifiedRecord,
} from '@curfew/ledger'
import { createValidator, type Log } from '@curfew/runtime'
import type { RelayedTokens } from '@curfew/wiring'
import type { Job } from './repeat.ts'

const PAUSE_MS = 15_000
const check = createValidator(AcceptedLogoutEvent)
const digest: Digest = (text) => hash('sha256', text)

/**
 * Creates the job that requeues relayed logouts which intake could not verify because the issuer's keys were unavailable. For each
 * issuer it tries its oldest token. Once the keys answer, it requeues all of them, and intake decides about each.
 */
export function createUnverifiedJob({
  db,
  tokens,
  log,
}: {
  readonly db: Database
  readonly tokens: Pick<RelayedTokens, 'verify'>
  readonly log: Log
}): Job {
  return {
    name: 'unverified tokens',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      const oldest = await findUnverified(db)
      if (oldest.length === 0) return false
      const { issuers } = await readRelayRegistry(db)
      const registered = new Map([...issuers.values()].map((issuer) => [issuer.iss, issuer]))
      for (const record of oldest) {
        const issuer = registered.get(record.iss)
        if (issuer === undefined || !(await keysAnswer(tokens, issuer, record))) continue
        const records = await requeueUnverified(db, record.iss)
        log.info({ event: 'unverified.requeued', iss: record.iss, records })
      }
      return false
    },
  }
}

/** Whether the issuer's keys can decide about a token. */
async function keysAnswer(
  tokens: Pick<RelayedTokens, 'verify'>,
  { iss, relay, networks }: Pick<Parameters<RelayedTokens['verify']>[0], 'iss' | 'relay' | 'networks'>,
  { value, headers }: UnverifiedRecord,
): Promise<boolean> {
  const event = decodeLogoutEvent({ value, headers }, check, digest)
  // Intake says what is wrong with such a record.
  if ('unreadable' in event || event.relayed === undefined) return true
  const { clientId, token } = event.relayed
  const result = await tokens.verify({ iss, clientId, relay, networks }, token, event.acceptedAt)
  return result.ok || result.kind === 'invalid'
}
