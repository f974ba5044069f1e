import type { OrphansFilter, Page, SessionsFilter } from '@curfew/client'
import type { OrphanedSession, Session } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { issOf } from '../registry/issuer.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'
import { LIMIT_OPTION, limitOf, upTo } from '../terminal/pages.ts'
import { table } from '../terminal/table.ts'

const LIST = {
  iss: text('ISS', 'the issuer, as in ID tokens, if there are several'),
  sub: text('SUB', 'the subject'),
  sid: text('SID', 'the session'),
  overlong: flag('the sessions that have lasted far longer than is normal for their client'),
  client: text('CLIENT_ID', 'only this relying party'),
  ...LIMIT_OPTION,
  ...CONNECTION_OPTIONS,
} as const
const ORPHANS = {
  issuer: text('NAME', 'only this issuer'),
  client: text('CLIENT_ID', 'only this relying party'),
  ...LIMIT_OPTION,
  ...CONNECTION_OPTIONS,
} as const

export const sessions = group('the sessions that the IdP posted', {
  list: command(
    {
      about: 'list posted sessions',
      options: LIST,
      examples: [
        'curfew sessions list --iss https://idp.example.com --sub alice',
        'curfew sessions list --overlong --client mail',
      ],
    },
    list,
  ),
  orphans: command({ about: 'list sessions whose logout failed or lapsed', options: ORPHANS }, orphans),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const { iss, client: client_id } = values
  const asked = askedOf(values)
  const limit = limitOf(values)
  const client = connect(values)
  const filter: SessionsFilter = {
    ...{ iss: await issOf(client, iss), ...asked },
    ...(client_id !== undefined && { client_id }),
  }
  const page = await upTo<Session>(limit, (part) => answered(client.listSessions({ ...filter, ...part })))
  const overlong = 'overlong' in asked
  return show(values.json, page, overlong ? 'No overlong sessions.\n' : 'No sessions.\n', [
    [...COLUMNS, ...(overlong ? ['OVERLONG SINCE (UTC)'] : []), 'LOGOUT'],
    ...page.items.map((item) => [
      item.client_id,
      item.sub,
      item.email ?? '',
      item.sid,
      item.device ?? '',
      minute(item.started_at),
      item.expires_at === null ? 'no end' : minute(item.expires_at),
      ...(overlong ? [item.overlong_since === null ? '' : minute(item.overlong_since)] : []),
      logoutWords(item),
    ]),
  ])
}

const COLUMNS = ['CLIENT', 'SUBJECT', 'EMAIL', 'SESSION', 'DEVICE', 'STARTED (UTC)', 'EXPIRES (UTC)']

type Asked = { readonly sub: string } | { readonly sid: string } | { readonly overlong: true }

/** The one option that says which sessions to list. */
function askedOf({ sub, sid, overlong }: Given<typeof LIST>['values']): Asked {
  const [only, ...others]: readonly Asked[] = [
    ...(sub === undefined ? [] : [{ sub }]),
    ...(sid === undefined ? [] : [{ sid }]),
    ...(overlong === true ? [{ overlong } as const] : []),
  ]
  if (only === undefined || others.length > 0)
    throw new UsageError('Give one of --sub, --sid and --overlong.')
  return only
}

const NOT_KEPT = 'the event was deleted'

function logoutWords({ logout }: Session): string {
  if (logout === null) return ''
  return logout.orphaned_at === null
    ? `under way: ${logout.event_id ?? NOT_KEPT}`
    : `failed or lapsed at ${minute(logout.orphaned_at)}: ${logout.event_id ?? NOT_KEPT}`
}

async function orphans({ values }: Given<typeof ORPHANS>): Promise<number> {
  const { issuer, client: client_id } = values
  const filter: OrphansFilter = {
    ...(issuer !== undefined && { issuer }),
    ...(client_id !== undefined && { client_id }),
  }
  const limit = limitOf(values)
  const client = connect(values)
  const page = await upTo<OrphanedSession>(limit, (part) =>
    answered(client.listOrphans({ ...filter, ...part })),
  )
  return show(values.json, page, 'No orphaned sessions.\n', [
    ['SINCE (UTC)', 'ISSUER', 'CLIENT', 'SUBJECT', 'EMAIL', 'SESSION', 'WHY', 'EVENT'],
    ...page.items.map((item) => [
      minute(item.orphaned_at),
      item.issuer ?? item.iss,
      item.client_id,
      item.sub,
      item.email ?? '',
      item.sid,
      item.why ?? NOT_KEPT,
      item.event_id ?? '',
    ]),
  ])
}

function show(
  json: boolean | undefined,
  page: Page<unknown>,
  none: string,
  rows: readonly (readonly string[])[],
): number {
  const more = page.next_cursor === null ? '' : 'There are more. Raise --limit, or narrow the filter.\n'
  if (json === true) process.stdout.write(`${JSON.stringify(page)}\n`)
  else process.stdout.write(page.items.length === 0 ? none : table(rows) + more)
  return 0
}

function minute(time: string): string {
  return time.slice(0, 16).replace('T', ' ')
}
