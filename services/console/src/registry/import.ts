import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Readable, Transform } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { Imported, type ImportFault, type Scope } from '@curfew/contract'
import type { ClientId, NetworkRank } from '@curfew/domain'
import {
  type Database,
  findNetworkRulesLeft,
  findRelyingParties,
  type IssuerRecord,
  importRelyingParties,
  type RelyingPartyDraft,
  type RelyingPartyOutline,
  takenUris,
} from '@curfew/ledger'
import {
  type BodyLine,
  callerOf,
  createTurns,
  type HttpServer,
  NDJSON_LINES_MAX,
  ProblemError,
  type RouteAccess,
  type Turn,
} from '@curfew/runtime'
import { Type } from 'typebox'
import { NDJSON } from '../http/export.ts'
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
  readRegistration,
  type SignedDraft,
  takenFaults,
} from './registration.ts'
import { overQuota } from './relying-parties.ts'

const WRITE = {
  scope: 'clients:write',
  access: 'path',
  accepts: [NDJSON],
  // One that has to come back for its turn costs no more than that.
  cost: 'late',
} satisfies RouteAccess<Scope>
const BODY_BYTES_MAX = 32 * 1024 * 1024
/** Most faults that an answer lists. */
const FAULTS_MAX = 1_000
const TRIES_MAX = 5
const RETRY_AFTER_S = 5
/** Imports under way in this process: each may hold `BODY_BYTES_MAX` bytes, and a connection for seconds. None waits. */
const IMPORTING = { ofCaller: 1, waitingOfCaller: 0, atOnce: 3 }
/** After so many ticks without a byte an import loses its turn. */
const STALL_TICKS = 5
const TICK_MS = 1_000
/** Clients that are looked at together: memory holds so many of them, and logouts of others, in the same process, get in between. */
const BATCH = 200

/** One line that is a client, as far as it is kept: the rest is read from its bytes again. */
interface Line extends RelyingPartyOutline, Pick<SignedDraft, 'issuer' | 'signs'> {
  readonly line: BodyLine
}

/** A line that was read. */
interface Body {
  readonly line: BodyLine
  readonly clientId: ClientId
  readonly body: Registration['body']
}

/** Whose clients are imported, and what the caller may say of their networks. */
interface Whose {
  readonly issuer: IssuerRecord
  readonly rank: NetworkRank
}

type ImportDeps = RegistrationDeps & { readonly db: Database }

/** `POST /v1/issuers/{issuer}/relying-parties/import`: thousands of clients in one change, or none. */
export function registerImport(server: HttpServer, deps: ImportDeps): void {
  const { db } = deps
  const turn = createTurn()
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
      // Before its body is read.
      onRequest: async (request, reply) => turn.take(request.params.issuer, reply.raw),
      preParsing: async (_request, _reply, body) => withoutStalls(body as IncomingMessage),
    },
    (request): Promise<Imported> =>
      turn.during(request.raw, async () => {
        // Without a body there is nothing that was read as lines.
        const lines = (request.body ?? []) as readonly BodyLine[]
        const { dry_run: dryRun } = request.query
        if (lines.length === 0)
          throw refused([{ line: 1, client_id: null, pointer: '', detail: 'is empty' }], 0)
        for (let tries = 0; tries < TRIES_MAX; tries++) {
          const issuer = await issuerOr404(db, request.params.issuer)
          const whose = { issuer, rank: networkRank(callerOf(request)) }
          const found = await check(deps, whose, lines)
          if (!dryRun) await signable(deps, found, lines.length)
          const result = await importRelyingParties(db, {
            issuer: issuer.name,
            issuerRevision: issuer.revision,
            outlines: found,
            drafts: () => draftsOf(deps, whose, found),
            audit: partyChange(callerOf(request).name),
            quota: deps.relyingPartiesMax,
            dryRun,
          })
          if (result.ok) return { dry_run: dryRun, total: found.length, ...result.counts }
          if (result.conflict === 'quota') throw overQuota(issuer.name, result)
          // What came in between is checked again, and told by line.
        }
        throw new ProblemError({
          status: 503,
          detail: 'Others change these relying parties all the time. Ask again in a moment.',
          headers: { 'retry-after': '1' },
        })
      }),
  )
}

/** Checks every line, by itself and against the others. @throws a 400 problem that lists all faults by line. */
async function check(deps: ImportDeps, whose: Whose, lines: readonly BodyLine[]): Promise<readonly Line[]> {
  const faults: ImportFault[] = []
  const firsts = new Map<ClientId, number>()
  const found: Line[] = []
  for (const some of batchesOf(lines)) {
    await setImmediate()
    const { bodies, faults: wrong } = bodiesOf(some, firsts)
    faults.push(...wrong)
    for (const { line, registration } of await registrationsOf(deps, whose, bodies)) {
      const { clientId, before } = registration
      const registered = readRegistration(registration, deps)
      faults.push(...registered.faults.map((fault) => ({ line: line.line, client_id: clientId, ...fault })))
      if (registered.faults.length > 0) continue
      const { endpoints, signs } = await draftOf(registered, deps)
      const expected = before?.revision ?? null
      found.push({ issuer: whose.issuer.name, clientId, endpoints, signs, line, expected })
    }
  }
  const taken = Map.groupBy(await takenUris(deps.db, whose.issuer.name, found), ({ clientId }) => clientId)
  const double = found.filter(({ clientId }) => taken.has(clientId))
  const bodies = double.map(({ line, clientId }) => ({ line, clientId, body: bodyOf(line) }))
  for (const { line, registration } of await registrationsOf(deps, whose, bodies)) {
    const { clientId } = registration
    // A credential that may import may see all clients of the issuer.
    const wrong = takenFaults(readRegistration(registration, deps), taken.get(clientId) ?? [], () => true)
    faults.push(...wrong.map((fault) => ({ line: line.line, client_id: clientId, ...fault })))
  }
  if (faults.length > 0) throw refused(faults, lines.length)
  return found
}

/** What some clients are to be registered as, beside what they are now. */
async function registrationsOf(
  { db }: ImportDeps,
  { issuer, rank }: Whose,
  bodies: readonly Body[],
): Promise<readonly { readonly line: BodyLine; readonly registration: Registration }[]> {
  const among = { issuer: issuer.name, clientIds: bodies.map(({ clientId }) => clientId) }
  const known = await findRelyingParties(db, among)
  const rulesLeft = await findNetworkRulesLeft(db, among)
  return bodies.map(({ line, clientId, body }) => {
    const before = known.get(clientId) ?? null
    const rule = before?.networkRule ?? rulesLeft.get(clientId) ?? null
    const networks = { rank, rule, named: true }
    return { line, registration: { issuer, clientId, body, before, networks, enableAgain: () => false } }
  })
}

/** The clients of some lines. @param firsts the line of each client so far; those of these lines are added. */
function bodiesOf(lines: readonly BodyLine[], firsts: Map<ClientId, number>) {
  const faults: ImportFault[] = []
  const bodies: Body[] = []
  for (const each of lines) {
    const { line } = each
    const read = each.read()
    const wrong = 'fault' in read ? [read.fault] : bodyFaults(read.value)
    if ('fault' in read || wrong.length > 0) {
      faults.push(...wrong.map((fault) => ({ line, client_id: null, ...fault })))
      continue
    }
    const body = read.value as Registration['body']
    const clientId = clientIdOf(body)
    if (typeof clientId !== 'string') {
      faults.push({ line, client_id: null, ...clientId })
      continue
    }
    const first = firsts.get(clientId)
    if (first === undefined) {
      firsts.set(clientId, line)
      bodies.push({ line: each, clientId, body })
    } else {
      const detail = `is that of line ${first}`
      faults.push({ line, client_id: clientId, pointer: '/client_id', detail })
    }
  }
  return { bodies, faults }
}

/** Sees to it that what is owed to them can be signed. @throws a 400 problem. */
async function signable(deps: ImportDeps, found: readonly Line[], total: number): Promise<void> {
  const unsigned = await keyFaults(found, deps)
  const faults = found.flatMap(({ line: { line }, clientId }) => {
    const fault = unsigned.get(clientId)
    return fault === undefined ? [] : [{ line, client_id: clientId, ...fault }]
  })
  if (faults.length > 0) throw refused(faults, total)
}

/** Lines without faults as drafts, some at a time. */
async function* draftsOf(
  deps: ImportDeps,
  whose: Whose,
  found: readonly Line[],
): AsyncGenerator<readonly RelyingPartyDraft[]> {
  for (const some of batchesOf(found)) {
    await setImmediate()
    const bodies = some.map(({ line, clientId }) => ({ line, clientId, body: bodyOf(line) }))
    const registrations = await registrationsOf(deps, whose, bodies)
    yield await Promise.all(
      registrations.map(async ({ registration }) => {
        const { signs: _, ...draft } = await draftOf(readRegistration(registration, deps), deps)
        return draft
      }),
    )
  }
}

/** What a line says that was read before without faults. */
function bodyOf(line: BodyLine): Registration['body'] {
  const read = line.read()
  if ('fault' in read) throw new Error(`line ${line.line} was read, and cannot be read again`)
  return read.value as Registration['body']
}

function* batchesOf<Item>(items: readonly Item[]): Generator<readonly Item[]> {
  for (let start = 0; start < items.length; start += BATCH) yield items.slice(start, start + BATCH)
}

/** The turns that imports hold: from before a body is read until its answer, or its work, has ended. */
function createTurn() {
  const turns = createTurns({ ...IMPORTING, refusal: anotherImport })
  const held = new WeakMap<object, { readonly turn: Turn; working: boolean }>()
  return {
    /** @param answer of the request: the turn ends with it, unless work goes on. @throws a 429 problem. */
    async take(issuer: string, answer: ServerResponse): Promise<void> {
      const turn = await turns.enter(issuer)
      const own = { turn, working: false }
      held.set(answer.req, own)
      const onClose = () => {
        if (!own.working) turn.end()
      }
      if (answer.closed) onClose()
      else answer.once('close', onClose)
    },
    /** Keeps the turn until `work` has ended, though the caller has gone. */
    async during<Result>(request: object, work: () => Promise<Result>): Promise<Result> {
      const own = held.get(request)
      if (own !== undefined) own.working = true
      try {
        return await work()
      } finally {
        own?.turn.end()
      }
    },
  }
}

function anotherImport(why: 'caller' | 'all'): ProblemError {
  const most =
    why === 'caller' ? 'one is done at a time for an issuer' : `${IMPORTING.atOnce} are done at once`
  return new ProblemError({
    status: 429,
    title: 'Another import',
    detail: `Another import is under way, and ${most}. Send this one again in a moment.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
  })
}

/** The same body. It fails with a 408 problem where nothing of it comes for `STALL_TICKS` ticks. */
function withoutStalls(body: Readable): Readable {
  let idle = 0
  const watched = new Transform({
    transform(chunk, _encoding, done) {
      idle = 0
      done(null, chunk)
    },
  })
  // Ticks are counted, for one long timer would also fire because this process was busy.
  const ticking = setInterval(() => {
    idle += 1
    if (idle < STALL_TICKS) return
    body.unpipe(watched)
    watched.destroy(stalled())
  }, TICK_MS)
  // A body of a type that is refused has no reader that would take the error.
  watched.on('error', () => undefined)
  watched.once('end', () => clearInterval(ticking))
  watched.once('close', () => {
    clearInterval(ticking)
    body.resume()
  })
  body.once('error', (error) => watched.destroy(error))
  body.once('close', () => {
    if (!body.readableEnded) watched.destroy()
  })
  return body.pipe(watched)
}

function stalled(): ProblemError {
  return new ProblemError({
    status: 408,
    detail: 'Nothing of the body came for seconds, and other imports wait. Send it again as a whole.',
    headers: { connection: 'close' },
  })
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
