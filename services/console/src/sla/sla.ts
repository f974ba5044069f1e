import { type Scope, Sla, SlaQuery } from '@curfew/contract'
import { type AccessFilter, conditionsOf, SLA_SPANS, spanEnd, spanStart } from '@curfew/domain'
import {
  countAlive,
  type Database,
  findIssuer,
  type IssuerRecord,
  listIssuers,
  readPromises,
  slaByHour,
  slaByParty,
  slaFiledUntil,
  slaNow,
} from '@curfew/ledger'
import { callerOf, type HttpServer, type RouteAccess } from '@curfew/runtime'
import { BacklogDegradedError, type createBacklogCheck } from '@curfew/wiring'
import type { Static } from 'typebox'
import { invalid, readTime } from '../http/query.ts'
import { noSuchIssuer } from '../registry/issuers.ts'
import { noSuchParty } from '../registry/relying-parties.ts'
import { burnView, figuresView, hourView, partyView, promiseView, sumOf } from './view.ts'

const READ = { scope: 'ledger:read', access: 'handler' } satisfies RouteAccess<Scope>
/** Longest range of a report, in days. */
const DAYS_MAX = 100
/** Longest range of a report by the hour, in days. It reads more rows per day. */
const HOURLY_DAYS_MAX = 7
/** Default range of a report by the hour, in days. */
const HOURLY_DAYS = 1

/** How long a report may wait for the first reading of the event log, in milliseconds. */
const BACKLOG_WAIT_MS = 2_000

interface SlaDeps {
  readonly db: Database
  readonly checkBacklog: ReturnType<typeof createBacklogCheck>
  readonly now: () => Date
}

/** `/v1/sla`: the SLA report with the share of kept deliveries, the error budget, its burn rate, and the deliveries at risk. */
export function registerSla(server: HttpServer, { db, checkBacklog, now }: SlaDeps): void {
  server.get(
    '/v1/sla',
    {
      config: READ,
      schema: {
        operationId: 'getSla',
        tags: ['SLA'],
        summary:
          'Get the SLA report: share of kept deliveries, percentiles, error budget, burn rate, deliveries at risk.',
        querystring: SlaQuery,
        response: { 200: Sla },
      },
    },
    async (request): Promise<Sla> => {
      const { query } = request
      const { access } = callerOf(request)
      const issuer = await issuerFor(db, access, query.issuer)
      const { clientIds } = conditionsOf(access, {
        issuer: issuer.name,
        clientId: query.client_id ?? null,
      })
      const at = now()
      const range = rangeOf(query, issuer, at.getTime())
      const scope = { issuer: issuer.name, clientIds }
      const promises = await readPromises(db, scope)
      const own = query.client_id === undefined ? null : promises.get(query.client_id)
      if (own === undefined) throw noSuchParty({ issuer: issuer.name, client_id: query.client_id ?? '' })
      // Read before the rollups, which then have at least all deliveries up to this time.
      const asOf = await slaFiledUntil(db, at)
      const asked = { promises, range, nowMs: asOf.getTime() }
      const hours = query.group_by === 'hour' ? await slaByHour(db, scope, asked) : null
      const parties = hours === null ? await slaByParty(db, scope, asked) : null
      const figures = sumOf(hours ?? parties)
      const whole = budgeted(issuer, at.getTime())
      const isWhole = whole.fromMs === range.fromMs && whole.toMs === range.toMs
      const { windows, all } = await slaNow(db, scope, { ...asked, range: isWhole ? null : whole })
      return {
        issuer: issuer.name,
        client_id: query.client_id ?? null,
        from: new Date(range.fromMs).toISOString(),
        to: new Date(range.toMs).toISOString(),
        as_of: asOf.toISOString(),
        not_counted_yet: await notCountedYet({ db, checkBacklog }),
        promise: {
          ...promiseView(own ?? { withinMs: issuer.slaWithinMs, objective: issuer.slaObjective }),
          window_days: issuer.slaWindowDays,
        },
        ...figuresView(figures),
        ...burnView(windows, isWhole ? figures : all),
        ...(hours !== null && { groups: [...hours].map(hourView) }),
        ...(query.group_by === 'relying_party' &&
          parties !== null && {
            groups: [...parties].map(([id, figures]) => partyView(id, promises.get(id), figures)),
          }),
      }
    },
  )
}

/** Says why accepted logouts are not counted yet: they count once a delivery worker has planned them. Null if none is known to wait. */
async function notCountedYet({ db, checkBacklog }: Omit<SlaDeps, 'now'>): Promise<string | null> {
  const { workers } = await countAlive(db)
  if (workers === 0) return 'no delivery worker is alive: accepted logouts wait in the event log'
  try {
    await checkBacklog({ waitMs: BACKLOG_WAIT_MS })
    return null
  } catch (error) {
    if (error instanceof BacklogDegradedError) return error.message
    throw error
  }
}

/** The issuer of the query, or the only issuer. @throws a 400 or 404 problem. */
async function issuerFor(
  db: Database,
  access: AccessFilter,
  asked: string | undefined,
): Promise<IssuerRecord> {
  const own = access.kind === 'everything' ? null : access.issuer
  const name = asked ?? own
  if (name !== null) {
    const issuer = own === null || own === name ? await findIssuer(db, name) : null
    // The answer for the issuer of another tenant is the same as for an unknown issuer.
    if (issuer === null) throw noSuchIssuer(name)
    return issuer
  }
  const [only, ...others] = await listIssuers(db, { after: '', limit: 2, only: null })
  if (only === undefined) throw invalid('/issuer', 'is required: no issuer is registered')
  if (others.length > 0) throw invalid('/issuer', 'is required: there are several issuers')
  return only
}

/** The range of times that PostgreSQL and JavaScript format the same, in full hours. */
const FIRST_MS = Date.parse('0001-01-01T00:00:00Z')
const LAST_MS = Date.parse('9999-12-31T23:00:00Z')

interface Range {
  readonly fromMs: number
  readonly toMs: number
}

/** The range of the error budget, in full hours. */
function budgeted({ slaWindowDays }: IssuerRecord, nowMs: number): Range {
  return {
    fromMs: spanStart('hour', nowMs - slaWindowDays * SLA_SPANS.day),
    toMs: spanEnd('hour', nowMs + 1),
  }
}

/** The range of the query, in full hours. @throws a 400 problem. */
function rangeOf(query: Static<typeof SlaQuery>, issuer: IssuerRecord, nowMs: number): Range {
  const byHour = query.group_by === 'hour'
  const to = readTime(query.to, '/to')?.getTime() ?? null
  const days = byHour ? Math.min(HOURLY_DAYS, issuer.slaWindowDays) : issuer.slaWindowDays
  const from = readTime(query.from, '/from')?.getTime() ?? (to ?? nowMs) - days * SLA_SPANS.day
  const range = {
    fromMs: spanStart('hour', from),
    // Includes logouts that are accepted at this instant.
    toMs: to === null ? spanEnd('hour', nowMs + 1) : spanEnd('hour', to),
  }
  if (range.toMs > LAST_MS || range.fromMs < FIRST_MS)
    throw invalid(to === null ? '/from' : '/to', 'must give a range within the years 1 to 9999')
  if (range.fromMs >= range.toMs) throw invalid('/from', 'must be before to')
  const max = byHour ? HOURLY_DAYS_MAX : DAYS_MAX
  // Both ends are rounded to hours, so the range may be an hour longer.
  if (range.toMs - range.fromMs > max * SLA_SPANS.day + SLA_SPANS.hour)
    throw invalid('/from', `must be at most ${max} days before to${byHour ? ' if grouped by hour' : ''}`)
  return range
}
