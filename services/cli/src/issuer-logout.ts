import { ApiError, type Client } from '@curfew/client'
import type { IssuerLogout, IssuerLogoutPreview, LogoutEventInput } from '@curfew/contract'
import { parse, UsageError } from './arguments.ts'
import { answered, CONNECTION_OPTIONS, connect } from './connect.ts'
import { agreed, watchJob, whyFailed } from './jobs.ts'
import { plain, table } from './table.ts'

/** `curfew issuer-logout`. @returns the exit status: 1 where it failed, was cancelled, declined, or left, or nobody could be told. */
export async function issuerLogout(args: readonly string[]): Promise<number> {
  const { values } = parse(args, {
    ...CONNECTION_OPTIONS,
    issuer: { type: 'string' },
    iss: { type: 'string' },
    reason: { type: 'string' },
    client: { type: 'string', multiple: true },
    initiator: { type: 'string' },
    'dry-run': { type: 'boolean' },
    yes: { type: 'boolean' },
    follow: { type: 'string' },
    cancel: { type: 'string' },
    json: { type: 'boolean' },
  })
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
  if ((issuer === undefined) === (values.iss === undefined))
    throw new UsageError('Of whom? Give --issuer NAME, or --iss ISSUER as in ID tokens.')
  const dryRun = values['dry-run'] === true
  if (!dryRun && values.yes !== true && !process.stdin.isTTY)
    throw new UsageError(
      'Nobody is here to be asked: give --yes to log everyone out, or --dry-run to see whom it would touch.',
    )
  const iss = values.iss ?? (await answered(client.getIssuer(issuer ?? ''))).iss
  const event: LogoutEventInput = {
    iss,
    scope: 'issuer',
    // The server knows which there are, and says so.
    ...(reason !== undefined && { reason: reason as NonNullable<LogoutEventInput['reason']> }),
    ...(initiator !== undefined && { initiator }),
    ...(clients !== undefined && { clients }),
  }
  const preview = await answered(client.previewIssuerLogout(event))
  if (dryRun && json) process.stdout.write(`${JSON.stringify(preview)}\n`)
  else (json ? process.stderr : process.stdout).write(previewText(preview))
  if (preview.plan_basis !== 'sessions') return 1
  if (dryRun) return 0
  if (values.yes !== true && !(await agreed(`Log out all ${preview.subjects} of ${plain(iss)}?`))) {
    process.stderr.write('Nobody was logged out.\n')
    return 1
  }
  const { id } = await answered(client.postLogoutEvent(event))
  return follow(client, id, { print, of, expected: preview.subjects })
}

/** Shows how far it is. @param expected subjects, where it was accepted a moment ago: it may not be planned yet. */
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
    goesOn: `The logout of everyone, ${id}, goes on without you.\n  watch it:  curfew issuer-logout --follow ${id}${option}\n  stop it:   curfew issuer-logout --cancel ${id}${option}\n`,
    progressOf({ job }) {
      if (job === null)
        return {
          running: true,
          done: 0,
          total: expected ?? 0,
          waiting: 0,
          note: 'accepted, and to be planned',
        }
      const { state, done, waiting } = job
      // Of whom it was counted, some have signed out meanwhile.
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
  return `${done} of ${total} people: ${acknowledged} acknowledged, ${waiting} waiting, ${dead} dead`
}

function summary(job: IssuerLogout): string {
  const { acknowledged, superseded, lapsed, dead, waiting } = job
  const rows = Object.entries({ acknowledged, superseded, lapsed, dead, waiting })
  const of = job.total === null ? '' : ` of ${job.total}`
  const nobody = job.plan_basis === 'sessions' ? '' : ` ${NOBODY[job.plan_basis] ?? ''}\n`
  return `Logout of everyone of ${plain(job.iss)}, ${job.id}, is ${job.state}: ${job.done}${of} people.\n${whyFailed(job)}${nobody}${rows
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `  ${String(count).padStart(8)} ${name}\n`)
    .join('')}${waiting === 0 ? '' : `Look again: curfew issuer-logout --follow ${job.id}\n`}`
}

const NOBODY: Readonly<Record<string, string>> = {
  registered:
    'Nobody can be told: the session index says nothing about this issuer, and a logout must name whom it is about. Post sessions.',
  unknown_issuer: 'Nobody can be told: no issuer with this iss is registered.',
}

function previewText(preview: IssuerLogoutPreview): string {
  const nobody = NOBODY[preview.plan_basis]
  if (nobody !== undefined) return `${nobody}\n`
  const rows = preview.by_client.map(({ client_id, sessions, subjects }) => [client_id, sessions, subjects])
  const more = preview.clients_left_out === 0 ? '' : `… and ${preview.clients_left_out} more clients.\n`
  return `${rows.length === 0 ? '' : table([['CLIENT', 'SESSIONS', 'PEOPLE'], ...rows])}${more}${plain(preview.iss)} has ${preview.subjects === 1 ? '1 person' : `${preview.subjects} people`} with ${preview.sessions === 1 ? '1 session' : `${preview.sessions} sessions`} to end.\n`
}
