import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@curfew/client'
import type { Probe, ProbeFindings } from '@curfew/contract'
import { type Given, text } from './arguments.ts'
import { answered, CONNECTION_OPTIONS, connect } from './connect.ts'
import { ISSUER_OPTION, issuerOf } from './issuer.ts'
import { createProgress } from './progress.ts'
import { plain, table } from './table.ts'

const POLL_MS = 300

export const PROBE_OPTIONS = {
  uri: text('URI', 'another endpoint, registered or not'),
  channel: text('KIND', 'the endpoint of this channel, if there are several'),
  alg: text('ALG', 'the signing algorithm, if not the registered one'),
  ...ISSUER_OPTION,
  ...CONNECTION_OPTIONS,
} as const

/** `curfew rp probe`. @returns the exit status: 1 if a check of level must has not passed. */
export async function probe({ values, positionals }: Given<typeof PROBE_OPTIONS>): Promise<number> {
  const { uri, channel, alg } = values
  const [clientId = ''] = positionals
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const input = {
    ...(uri !== undefined && { uri }),
    ...(channel !== undefined && { channel }),
    ...(alg !== undefined && { id_token_signed_response_alg: alg }),
  }
  const ended = await watched(client, { issuer, clientId }, answered(client.probe(issuer, clientId, input)))
  process.stdout.write(values.json === true ? `${JSON.stringify(ended)}\n` : inWords(ended))
  return ended.report?.conformant === true ? 0 : 1
}

/** Shows the progress of a probe until it has ended. */
async function watched(
  client: Client,
  { issuer, clientId }: { issuer: string; clientId: string },
  probing: Promise<Probe>,
): Promise<Probe> {
  const progress = createProgress(process.stderr)
  const ended = probing.then(
    () => true,
    () => true,
  )
  while (!(await Promise.race([ended, sleep(POLL_MS, false)]))) {
    // A failure here only hides the progress. The call of the probe itself returns the result.
    const last = await client.getProbe(issuer, clientId).catch(() => null)
    if (last?.state === 'running')
      progress.show(last.sent, last.total, `${last.sent} of ${last.total} requests answered`)
  }
  progress.end()
  return probing
}

function inWords({ uri, client_id, issuer, report }: Probe): string {
  if (report === null) return 'There is no report.\n'
  const { checks, suggestions } = report
  // Requests that were not sent are listed below with the reason.
  const seen = checks.filter(({ result, status }) => result !== 'unknown' || status !== null)
  const rows = seen.map(({ id, result, level, status, duration_ms, title }) => [
    ...[result === 'failed' ? 'FAILED' : result, level, id, status ?? '', duration_ms ?? '', title],
  ])
  return [
    `${client_id} at ${issuer}: ${plain(uri)}\n`,
    table([['RESULT', 'LEVEL', 'CHECK', 'STATUS', 'MS', 'IT'], ...rows]),
    ...checks.filter(({ result }) => result === 'failed').map(paragraph),
    unknownWords(report),
    ...suggestions.map(
      ({ setting, value, why }) => `Suggestion: ${setting} ${JSON.stringify(value)}\n  ${plain(why)}\n`,
    ),
    `${verdict(report)}\n`,
  ]
    .filter((part) => part !== '')
    .join('\n')
}

function paragraph({ id, level, section, what, fix }: ProbeFindings['checks'][number]): string {
  const remedy = fix === null ? '' : `  Fix: ${plain(fix)}\n`
  return `${id} (${level}; ${section})\n  ${plain(what)}\n${remedy}`
}

/** The reasons of unknown checks, each with all its checks. */
function unknownWords({ checks }: ProbeFindings): string {
  const unknown = checks.filter(({ result }) => result === 'unknown')
  const reasons = Map.groupBy(unknown, ({ what }) => what)
  return [...reasons]
    .map(([what, checks]) => `Unknown: ${checks.map(({ id }) => id).join(', ')}\n  ${plain(what)}\n`)
    .join('')
}

function verdict({ passed, failed, unknown, conformant }: ProbeFindings): string {
  const counts = `${passed} passed, ${failed} failed, ${unknown} unknown.`
  return conformant ? `Every must is passed. ${counts}` : `Not every must is passed. ${counts}`
}
