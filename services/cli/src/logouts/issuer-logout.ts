import { ApiError, type Client } from '@curfew/client'
import type { IssuerLogout, IssuerLogoutPreview, LogoutEventInput } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { agreed, watchJob, whyFailed } from '../calls/jobs.ts'
import { issuerOf } from '../registry/issuer.ts'
import { command, flag, type Given, text, texts, UsageError } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'

const OPTIONS = {
  issuer: text('NAME', 'the issuer by its name, if there are several'),
  iss: text('ISS', 'the issuer, as in ID tokens'),
  reason: text('REASON', 'the reason of the logout'),
  client: texts('CLIENT_ID', 'notify only this relying party'),
  initiator: text('CLIENT_ID', 'the relying party that started the logout; it is not notified'),
  'dry-run': flag('only count'),
  yes: flag('do not ask for confirmation'),
  follow: text('ID', 'watch a running issuer logout'),
  cancel: text('ID', 'stop an issuer logout; no more subjects are logged out'),
  ...CONNECTION_OPTIONS,
} as const

export const issuerLogout = command(
  {
    about: 'log out all subjects of an issuer; counts them, then asks for confirmation',
    options: OPTIONS,
    notes: '--follow and --cancel take --issuer NAME, if several issuers use the id.',
    examples: ['curfew issuer-logout --issuer main --dry-run'],
  },
  runIssuerLogout,
)

/**
 * @returns the exit status: 1 if the job failed or was cancelled, if the person declined or left, or if no relying party can be
 * notified.
 */
async function runIssuerLogout({ values }: Given<typeof OPTIONS>): Promise<number> {
  const json = values.json === true
  const print = (job: IssuerLogout) => process.stdout.write(json ? `${JSON.stringify(job)}\n` : summary(job))
  const client = connect(values)
  const of = values.issuer === undefined ? {} : { issuer: values.issuer }
  if (values.cancel !== undefined) {
    const job = await answered(client.cancelIssuerLogout(values.cancel, of))
    print(job)
    return job.state === 'cancelled' ? 0 : 1
  }
  if (values.follow !== undefined) return follow(client, values.follow, { print, of, expected: null })

  const { issuer, reason, client: clients, initiator } = values
  if (issuer !== undefined && values.iss !== undefined)
    throw new UsageError('Give --issuer NAME, or --iss ISSUER as in ID tokens, not both.')
  const dryRun = values['dry-run'] === true
  if (!dryRun && values.yes !== true && !process.stdin.isTTY)
    throw new UsageError(
      'There is no terminal to ask for confirmation: give --yes to log out all subjects, or --dry-run to count them.',
    )
  const iss = values.iss ?? (await answered(client.getIssuer(await issuerOf(client, issuer)))).iss
  const event: LogoutEventInput = {
    iss,
    scope: 'issuer',
    // The server refuses invalid reasons, and lists the valid ones.
    ...(reason !== undefined && { reason: reason as NonNullable<LogoutEventInput['reason']> }),
    ...(initiator !== undefined && { initiator }),
    ...(clients !== undefined && { clients }),
  }
  const preview = await answered(client.previewIssuerLogout(event))
  if (dryRun && json) process.stdout.write(`${JSON.stringify(preview)}\n`)
  else (json ? process.stderr : process.stdout).write(previewText(preview))
  if (preview.plan_basis !== 'sessions') return 1
  if (dryRun) return 0
  if (values.yes !== true && !(await agreed(`Log out all ${preview.subjects} subjects of ${plain(iss)}?`))) {
    process.stderr.write('Nothing was changed.\n')
    return 1
  }
  const { id } = await answered(client.postLogoutEvent(event))
  return follow(client, id, { print, of, expected: preview.subjects })
}

/** Shows the progress. @param expected number of subjects, if the logout was just accepted and may not be planned yet. */
async function follow(
  client: Client,
  id: string,
  {
    print,
    of,
    expected,
  }: {
    print: (job: IssuerLogout) => void
    of: { readonly issuer?: string }
    expected: number | null
  },
): Promise<number> {
  const option = of.issuer === undefined ? '' : ` --issuer ${of.issuer}`
  const get = async () => {
    try {
      return await client.getIssuerLogout(id, of)
    } catch (error) {
      if (expected === null || !(error instanceof ApiError && error.status === 404)) throw error
      return null
    }
  }
  const found = await watchJob(async () => ({ job: await get() }), {
    leaveText: `Issuer logout ${id} continues in the background.\n  watch it:  curfew issuer-logout --follow ${id}${option}\n  stop it:   curfew issuer-logout --cancel ${id}${option}\n`,
    progressOf({ job }) {
      if (job === null)
        return {
          running: true,
          done: 0,
          total: expected ?? 0,
          waiting: 0,
          note: 'accepted, not planned yet',
        }
      const { state, done, waiting } = job
      // Some of the counted subjects may have signed out before their logout, so a finished job may have fewer than its total.
      const total = state === 'done' ? done : (job.total ?? expected ?? 0)
      return { running: state === 'running', done, total, waiting, note: counts(job, total) }
    },
  })
  const job = found?.job ?? null
  if (job === null) return 1
  print(job)
  return job.state === 'done' && job.plan_basis === 'sessions' ? 0 : 1
}

function counts({ done, acknowledged, waiting, dead }: IssuerLogout, total: number): string {
  return `${done} of ${total} subjects: ${acknowledged} acknowledged, ${waiting} waiting, ${dead} dead`
}

function summary(job: IssuerLogout): string {
  const { acknowledged, superseded, lapsed, dead, waiting } = job
  const rows = Object.entries({ acknowledged, superseded, lapsed, dead, waiting })
  const of = job.total === null ? '' : ` of ${job.total}`
  const impossible = job.plan_basis === 'sessions' ? '' : ` ${IMPOSSIBLE[job.plan_basis] ?? ''}\n`
  return `Issuer logout ${job.id} of ${plain(job.iss)} is ${job.state}: ${job.done}${of} subjects.\n${whyFailed(job)}${impossible}${rows
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `  ${String(count).padStart(8)} ${name}\n`)
    .join('')}${waiting === 0 ? '' : `Follow it: curfew issuer-logout --follow ${job.id}\n`}`
}

/** Why no relying party can be notified, by the basis of the plan. */
const IMPOSSIBLE: Readonly<Record<string, string>> = {
  registered:
    'No relying party can be notified: the session index says nothing about this issuer, and a logout token must name a session or a subject. Have the identity provider post its sessions.',
  unknown_issuer: 'No relying party can be notified: no issuer with this iss is registered.',
}

function previewText(preview: IssuerLogoutPreview): string {
  const impossible = IMPOSSIBLE[preview.plan_basis]
  if (impossible !== undefined) return `${impossible}\n`
  const rows = preview.by_client.map(({ client_id, sessions, subjects }) => [client_id, sessions, subjects])
  const more = preview.clients_omitted === 0 ? '' : `… and ${preview.clients_omitted} more clients.\n`
  return `${rows.length === 0 ? '' : table([['CLIENT', 'SESSIONS', 'SUBJECTS'], ...rows])}${more}${plain(preview.iss)} has ${preview.subjects === 1 ? '1 subject' : `${preview.subjects} subjects`} with ${preview.sessions === 1 ? '1 session' : `${preview.sessions} sessions`} to end.\n`
}
