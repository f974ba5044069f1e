import type { Client } from '@curfew/client'
import type { Replay, ReplayPreview } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { agreed, watchJob, whyFailed } from '../calls/jobs.ts'
import { flag, type Given, text, texts, UsageError } from '../terminal/arguments.ts'
import { table } from '../terminal/table.ts'
import { FILTER_OPTIONS, filterOf } from './dlq-filter.ts'

export const REPLAY_OPTIONS = {
  ...FILTER_OPTIONS,
  id: texts('ID', 'only this dead letter'),
  'include-lapsed': flag('also dead letters of expired sessions'),
  'dry-run': flag('only show the number'),
  yes: flag('do not ask for confirmation'),
  follow: text('ID', 'watch a running replay'),
  cancel: text('ID', 'stop a replay'),
  ...CONNECTION_OPTIONS,
} as const

/**
 * `curfew dlq replay`.
 *
 * @returns the exit status: 1 if the replay failed or was cancelled, if the person declined or left, or if an id is not a dead
 * letter.
 */
export async function replay({ values }: Given<typeof REPLAY_OPTIONS>): Promise<number> {
  const json = values.json === true
  const print = (job: Replay) => process.stdout.write(json ? `${JSON.stringify(job)}\n` : summary(job))
  if (values.cancel !== undefined) {
    const job = await answered(connect(values).cancelReplay(values.cancel))
    print(job)
    return job.state === 'cancelled' ? 0 : 1
  }
  if (values.follow !== undefined) return follow(connect(values), values.follow, print)

  const ids = values.id
  const filter = { ...filterOf(values), ...(ids !== undefined && { ids }) }
  const request = { filter, include_lapsed: values['include-lapsed'] === true }
  const dryRun = values['dry-run'] === true
  if (!dryRun && values.yes !== true && !process.stdin.isTTY)
    throw new UsageError(
      'There is no terminal to ask for confirmation: give --yes to replay, or --dry-run to see what a replay would include.',
    )
  const client = connect(values)
  const preview = await answered(client.previewReplay(request))
  if (dryRun && json) process.stdout.write(`${JSON.stringify(preview)}\n`)
  else (json ? process.stderr : process.stdout).write(previewText(preview, request.include_lapsed))
  const unknown = unknownOf(new Set(ids).size, preview, request.include_lapsed)
  if (unknown > 0) {
    process.stderr.write(
      `Not found: ${unknown} of the ${new Set(ids).size} ids. This key may not replay them, or they are not dead letters.\n`,
    )
  }
  if (dryRun) return unknown === 0 ? 0 : 1
  if (values.yes !== true && preview.total > 0 && !(await agreed(`Replay ${preview.total}?`))) {
    process.stderr.write('Nothing was replayed.\n')
    return 1
  }
  if (preview.total === 0 && !json) return unknown === 0 ? 0 : 1
  const job = await answered(client.startReplay(request))
  return Math.max(await follow(client, job.id, print), unknown === 0 ? 0 : 1)
}

/** Number of given ids that are not dead letters. */
function unknownOf(given: number, { total, lapsed }: ReplayPreview, includeLapsed: boolean): number {
  return Math.max(0, given - total - (includeLapsed ? 0 : lapsed))
}

/** Shows the progress of a replay until it has ended, and for a few seconds the settlement of its deliveries. */
async function follow(client: Client, id: string, print: (job: Replay) => void): Promise<number> {
  const job = await watchJob(() => client.getReplay(id), {
    leaveText: `Replay ${id} continues in the background.\n  watch it:  curfew dlq replay --follow ${id}\n  stop it:   curfew dlq replay --cancel ${id}\n`,
    progressOf: (replay) => ({
      running: replay.state === 'running',
      done: replay.done,
      // Dead letters that lapse after the request are not replayed, so a finished replay may have fewer than its total.
      total: replay.state === 'done' ? replay.done : replay.total,
      waiting: replay.waiting,
      note: counts(replay),
    }),
  })
  if (job === null) return 1
  print(job)
  return job.state === 'done' ? 0 : 1
}

function counts({ done, total, acknowledged, waiting, dead }: Replay): string {
  return `${done} of ${total} replayed: ${acknowledged} acknowledged, ${waiting} waiting, ${dead} dead again`
}

function summary(job: Replay): string {
  const { acknowledged, superseded, lapsed, dead, waiting } = job
  const rows = Object.entries({ acknowledged, superseded, lapsed, 'dead again': dead, waiting })
  return `Replay ${job.id} is ${job.state}: ${job.done} of ${job.total} replayed.\n${whyFailed(job)}${rows
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `  ${String(count).padStart(8)} ${name}\n`)
    .join('')}${waiting === 0 ? '' : `Follow it: curfew dlq replay --follow ${job.id}\n`}`
}

function previewText(preview: ReplayPreview, includeLapsed: boolean): string {
  if (preview.groups.length === 0) return 'No dead letters match.\n'
  const rows = preview.groups.map((group) => [
    group.issuer,
    group.client_id,
    group.reason,
    group.count,
    group.lapsed,
    group.oldest.slice(0, 19).replace('T', ' '),
    group.newest.slice(0, 19).replace('T', ' '),
  ])
  const more = preview.groups_left_out === 0 ? '' : `… and ${preview.groups_left_out} more groups.\n`
  const lapsed =
    preview.lapsed === 0
      ? ''
      : ` ${preview.lapsed} dead letters are of expired sessions${
          includeLapsed ? ' and are replayed too' : ' and are not replayed without --include-lapsed'
        }.`
  return `${table([
    ['ISSUER', 'CLIENT', 'REASON', 'COUNT', 'LAPSED', 'OLDEST (UTC)', 'NEWEST (UTC)'],
    ...rows,
  ])}${more}A replay includes ${preview.total}.${lapsed}\n`
}
