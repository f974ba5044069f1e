import { setImmediate } from 'node:timers/promises'
import { Imported, type ImportFault, type Scope } from '@curfew/client'
import type { ClientId, NetworkRank } from '@curfew/domain'
import {
  type Database,
  findNetworkRulesLeft,
  findRelyingParties,
  type IssuerRecord,
  putRelyingParties,
  type RelyingPartyDraft,
  takenUris,
} from '@curfew/ledger'
import {
  type BodyLine,
  callerOf,
  type HttpServer,
  NDJSON_LINES_MAX,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import { Type } from 'typebox'
import { NDJSON } from './export.ts'
import { IssuerParams, issuerOr404 } from './issuers.ts'
import { networkRank } from './networks.ts'
import { partyChange } from './party-view.ts'
import {
  bodyFaults,
  clientIdOf,
  draftOf,
  keyFaults,
  type Registration,
  type RegistrationDeps,
  registrationFaults,
  takenFaults,
} from './registration.ts'

const WRITE = { scope: 'clients:write', reach: 'path', accepts: [NDJSON] } satisfies RouteAccess<Scope>
const BODY_BYTES_MAX = 32 * 1024 * 1024
/** Most faults that an answer lists. */
const FAULTS_MAX = 1_000
const TRIES_MAX = 5
/** Lines that are checked at a stretch: logouts of others, in the same process, get in between. */
const BREATH = 100

/** One line that is a client, with what it is about. */
interface Line {
  readonly line: number
  readonly registration: Registration
}

/** `POST /v1/issuers/{issuer}/relying-parties/import`: thousands of clients in one change, or none. */
export function registerImport(server: HttpServer, deps: RegistrationDeps & { readonly db: Database }): void {
  const { db } = deps
  server.post(
    '/v1/issuers/:issuer/relying-parties/import',
    {
      config: WRITE,
      bodyLimit: BODY_BYTES_MAX,
      schema: {
        summary:
          'Register many relying parties, all or none: NDJSON, a line for each as PUT takes it, with its client_id.',
        params: IssuerParams,
        querystring: Type.Object({
          dry_run: Type.Boolean({ default: false, description: 'Check, and change nothing.' }),
        }),
        body: Type.Unknown({ description: `Up to ${NDJSON_LINES_MAX} lines and ${BODY_BYTES_MAX} bytes.` }),
        response: { 200: Imported },
      },
    },
    async (request): Promise<Imported> => {
      // Without a body there is nothing that was read as lines.
      const lines = (request.body ?? []) as readonly BodyLine[]
      const { dry_run: dryRun } = request.query
      if (lines.length === 0)
        throw refused([{ line: 1, client_id: null, pointer: '', detail: 'is empty' }], 0)
      for (let tries = 0; tries < TRIES_MAX; tries++) {
        const issuer = await issuerOr404(db, request.params.issuer)
        const rank = networkRank(callerOf(request))
        const { found, drafts } = await check(deps, { issuer, lines, rank })
        const before = new Map(
          found.map(({ registration }) => [
            registration.clientId as string,
            registration.before?.revision ?? null,
          ]),
        )
        if (!dryRun) {
          const unsigned = await keyFaults(drafts, deps)
          const faults = found.flatMap(({ line, registration: { clientId } }) => {
            const fault = unsigned.get(clientId)
            return fault === undefined ? [] : [{ line, client_id: clientId, ...fault }]
          })
          if (faults.length > 0) throw refused(faults, lines.length)
        }
        const result = await putRelyingParties(db, {
          issuer: issuer.name,
          drafts,
          expected: before,
          audit: partyChange(callerOf(request).name),
          dryRun,
        })
        // What came in between is checked again, and told by line.
        if (!result.ok) continue
        const count = (outcome: string) => result.outcomes.filter((each) => each === outcome).length
        return {
          dry_run: dryRun,
          total: drafts.length,
          created: count('created'),
          changed: count('changed'),
          unchanged: count('unchanged'),
        }
      }
      throw new ProblemError({
        status: 503,
        detail: 'Others change these relying parties all the time. Ask again in a moment.',
        headers: { 'retry-after': '1' },
      })
    },
  )
}

/** Checks every line, by itself and against the others. @throws a 400 problem that lists all faults by line. */
async function check(
  deps: RegistrationDeps & { readonly db: Database },
  { issuer, lines, rank }: { issuer: IssuerRecord; lines: readonly BodyLine[]; rank: NetworkRank },
): Promise<{ found: readonly Line[]; drafts: readonly RelyingPartyDraft[] }> {
  const faults: ImportFault[] = []
  const bodies = new Map<ClientId, { readonly line: number; readonly body: Registration['body'] }>()
  for (const [index, each] of lines.entries()) {
    if (index % BREATH === 0) await setImmediate()
    const { line } = each
    if ('fault' in each) {
      faults.push({ line, client_id: null, ...each.fault })
      continue
    }
    const wrong = bodyFaults(each.value)
    if (wrong.length > 0) {
      faults.push(...wrong.map((fault) => ({ line, client_id: null, ...fault })))
      continue
    }
    const body = each.value as Registration['body']
    const clientId = clientIdOf(body)
    const first = typeof clientId === 'string' ? bodies.get(clientId) : undefined
    if (typeof clientId !== 'string') faults.push({ line, client_id: null, ...clientId })
    else if (first !== undefined)
      faults.push({
        line,
        client_id: clientId,
        pointer: '/client_id',
        detail: `is that of line ${first.line}`,
      })
    else bodies.set(clientId, { line, body })
  }

  const among = { issuer: issuer.name, clientIds: [...bodies.keys()] }
  const before = await findRelyingParties(deps.db, among)
  const rulesLeft = await findNetworkRulesLeft(deps.db, among)
  const found: Line[] = []
  for (const [clientId, { line, body }] of bodies) {
    if (found.length % BREATH === 0) await setImmediate()
    const registration = {
      issuer,
      clientId,
      body,
      before: before.get(clientId) ?? null,
      networks: {
        rank,
        rule: before.get(clientId)?.networkRule ?? rulesLeft.get(clientId) ?? null,
        named: true,
      },
      enableAgain: false,
    }
    const wrong = registrationFaults(registration, deps)
    faults.push(...wrong.map((fault) => ({ line, client_id: clientId, ...fault })))
    found.push({ line, registration })
  }
  const faulty = new Set(faults.map(({ line }) => line))
  const good = found.filter(({ line }) => !faulty.has(line))
  const drafts = await Promise.all(good.map(({ registration }) => draftOf(registration, deps)))
  const taken = Map.groupBy(await takenUris(deps.db, issuer.name, drafts), ({ clientId }) => clientId)
  for (const { line, registration } of good) {
    const { clientId, body } = registration
    // Whoever may import may see all clients of the issuer.
    const wrong = takenFaults(body, taken.get(clientId) ?? [], () => true)
    faults.push(...wrong.map((fault) => ({ line, client_id: clientId, ...fault })))
  }
  if (faults.length > 0) throw refused(faults, lines.length)
  return { found, drafts }
}

function refused(faults: readonly ImportFault[], total: number): ProblemError {
  const sorted = faults.toSorted((a, b) => a.line - b.line)
  const lines = new Set(faults.map(({ line }) => line)).size
  return new ProblemError({
    status: 400,
    title: 'Invalid import',
    detail: `${lines} of ${total} lines cannot be registered as they are. Nothing was changed.`,
    extensions: {
      faults: sorted.slice(0, FAULTS_MAX),
      faults_left_out: Math.max(0, faults.length - FAULTS_MAX),
    },
  })
}
