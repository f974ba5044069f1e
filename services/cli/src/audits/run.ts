import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@curfew/client'
import type { Audit } from '@curfew/contract'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { ISSUER_OPTION, issuerOf } from '../registry/issuer.ts'
import { flag, type Given, texts } from '../terminal/arguments.ts'
import { createProgress } from '../terminal/progress.ts'
import { plain, table } from '../terminal/table.ts'

export const RUN_OPTIONS = {
  ...ISSUER_OPTION,
  client: texts('ID', 'only this client; without it every client with a set-up'),
  wait: flag('wait until the audits have ended, and show their results'),
  ...CONNECTION_OPTIONS,
} as const

const POLL_MS = 500
/** Number of consecutive polls that may fail. */
const FAILURES_MAX = 60

/** `curfew audit run`. @returns the exit status: 1 if an awaited audit did not pass. */
export async function run({ values }: Given<typeof RUN_OPTIONS>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const clients = values.client === undefined ? {} : { clients: [...values.client] }
  const { audits } = await answered(client.runAudits({ issuer, ...clients }))
  const json = values.json === true
  if (values.wait !== true) {
    process.stdout.write(json ? `${JSON.stringify({ audits })}\n` : started(audits))
    return 0
  }
  const ended = await awaited(client, audits)
  process.stdout.write(json ? `${JSON.stringify({ audits: ended })}\n` : results(ended))
  return ended.every(({ result }) => result === 'passed') ? 0 : 1
}

/** Shows the progress until every audit has ended. Each audit ends within the times of its set-up. */
async function awaited(client: Client, audits: readonly Audit[]): Promise<readonly Audit[]> {
  const progress = createProgress(process.stderr)
  const known = new Map(audits.map((audit) => [audit.id, audit]))
  const unended = () => [...known.values()].filter(({ state }) => state !== 'ended')
  for (let failures = 0; unended().length > 0; ) {
    const left = unended()
    const done = known.size - left.length
    progress.show(done, known.size, `${done} of ${known.size} audits ended`)
    await sleep(POLL_MS)
    try {
      for (const { id } of left) known.set(id, await answered(client.getAudit(id)))
      failures = 0
    } catch (error) {
      failures += 1
      if (!(error instanceof CallFailed && error.passing) || failures > FAILURES_MAX) throw error
    }
  }
  progress.show(known.size, known.size, `${known.size} of ${known.size} audits ended`)
  progress.end()
  return [...known.values()]
}

function started(audits: readonly Audit[]): string {
  const rows = audits.map(({ client_id, state, id }) => [client_id, state, id])
  return `${table([['CLIENT', 'STATE', 'ID'], ...rows])}Follow them: curfew audit list\n`
}

function results(audits: readonly Audit[]): string {
  const rows = audits.map(({ client_id, result, reason, propagation_ms }) => [
    ...[client_id, result ?? '', reason ?? '', propagation_ms ?? ''],
  ])
  const unpassed = audits.filter(({ result }) => result !== 'passed')
  return [
    table([['CLIENT', 'RESULT', 'REASON', 'MS'], ...rows]),
    ...unpassed.map(
      ({ client_id, what, fix }) =>
        `\n${plain(client_id)}: ${plain(what ?? '')}\n  Fix: ${plain(fix ?? '')}\n`,
    ),
  ].join('')
}
