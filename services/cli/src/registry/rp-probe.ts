import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@curfew/client'
import type { Probe, ProbeFindings } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { agreed, answerTo } from '../calls/jobs.ts'
import { flag, type Given, text, UsageError } from '../terminal/arguments.ts'
import { createProgress } from '../terminal/progress.ts'
import { plain, table } from '../terminal/table.ts'
import { ISSUER_OPTION, issuerOf } from './issuer.ts'

const POLL_MS = 300

export const PROBE_OPTIONS = {
  uri: text('URI', 'another endpoint, registered or not'),
  channel: text('KIND', 'the endpoint of this channel, if there are several'),
  alg: text('ALG', 'the signing algorithm, if not the registered one'),
  sid: text('SID', 'also end this real session, to see whether a 200 ends anything; asks first'),
  sub: text('SUB', 'the user of that session; without --sid all sessions of the user'),
  yes: flag('do not ask before a real session is ended'),
  over: text('yes|no|unknown', 'only store whether the real session of the last probe is over'),
  ...ISSUER_OPTION,
  ...CONNECTION_OPTIONS,
} as const

/** `curfew rp probe`. @returns the exit status: 1 if a check of level must has not passed. */
export async function probe({ values, positionals }: Given<typeof PROBE_OPTIONS>): Promise<number> {
  const { uri, channel, alg, sub, sid, over } = values
  const [clientId = ''] = positionals
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  if (over !== undefined)
    return storeAnswer(client, { issuer, clientId, over: readOver(over) }, values.json === true)
  const session = sub === undefined && sid === undefined ? undefined : named({ sub, sid })
  if (session !== undefined && values.yes !== true && !(await mayEnd(session, clientId))) return 1
  const input = {
    ...(session !== undefined && { session }),
    ...(uri !== undefined && { uri }),
    ...(channel !== undefined && { channel }),
    ...(alg !== undefined && { id_token_signed_response_alg: alg }),
  }
  const ended = await watched(client, { issuer, clientId }, answered(client.probe(issuer, clientId, input)))
  if (ended.report?.session === undefined || values.yes === true || !process.stdin.isTTY)
    return shown(ended, values.json === true)
  const seen = readOver(await answerTo('Is the session over at the relying party? [yes, no, unknown]'))
  return storeAnswer(client, { issuer, clientId, over: seen }, values.json === true)
}

type Over = 'yes' | 'no' | 'unknown'

/** Prints a probe. @returns the exit status. */
function shown(probe: Probe, json: boolean): number {
  process.stdout.write(json ? `${JSON.stringify(probe)}\n` : inWords(probe))
  return probe.report?.conformant === true ? 0 : 1
}

/** Stores the owner's observation after the last probe. @returns the exit status. */
async function storeAnswer(
  client: Client,
  { issuer, clientId, over }: { readonly issuer: string; readonly clientId: string; readonly over: Over },
  json: boolean,
): Promise<number> {
  const { id } = await answered(client.getProbe(issuer, clientId))
  return shown(await answered(client.answerProbe(issuer, clientId, { probe: id, over })), json)
}

function readOver(text: string): Over {
  const over = ({ y: 'yes', n: 'no', '': 'unknown' } as const)[text] ?? text
  if (over === 'yes' || over === 'no' || over === 'unknown') return over
  throw new UsageError(`--over must be yes, no or unknown, and not ${plain(text)}.`)
}

function named({ sub, sid }: { readonly sub: string | undefined; readonly sid: string | undefined }) {
  return { ...(sub !== undefined && { sub }), ...(sid !== undefined && { sid }) }
}

/** Asks before a real session is ended. */
async function mayEnd({ sub, sid }: { readonly sub?: string; readonly sid?: string }, clientId: string) {
  if (!process.stdin.isTTY)
    throw new UsageError('There is no terminal to ask for confirmation: give --yes to end the real session.')
  const what = sid === undefined ? `all sessions of ${plain(sub ?? '')}` : `the session ${plain(sid)}`
  return agreed(
    `This ends ${what} at ${plain(clientId)}, and possibly other sessions of the user there. Go on?`,
  )
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
      ({ setting, value, why }) =>
        `Suggestion: ${setting} ${plain(JSON.stringify(value))}\n  ${plain(why)}\n`,
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
