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
  type SignedDraft,
  takenFaults,
} from './registration.ts'
import { createNotices, readImportedClient } from './relay.ts'
import { overQuota } from './relying-parties.ts'

const WRITE = {
  scope: 'clients:write',
  access: 'path',
  accepts: [NDJSON],
  // An import that is refused because others run costs only one request.
  cost: 'late',
} satisfies RouteAccess<Scope>
const BODY_BYTES_MAX = 32 * 1024 * 1024
/** Greatest number of faults in an answer. */
const FAULTS_MAX = 1_000
const TRIES_MAX = 5
const RETRY_AFTER_S = 5
/**
 * Limits of concurrent imports in this process. Each may hold `BODY_BYTES_MAX` bytes, and a connection for seconds. A request over the limit gets a 429.
 */
const IMPORTING = { perCaller: 1, waitingPerCaller: 0, atOnce: 3 }
/** An import fails after this number of ticks without a byte. */
const STALL_TICKS = 5
const TICK_MS = 1_000
/** Number of clients in one batch. It bounds the memory, and logouts in the same process can run between batches. */
const BATCH = 200

/** The facts of one valid line that stay in memory. The rest is read from its bytes again. */
interface Line extends RelyingPartyOutline, Pick<SignedDraft, 'issuer' | 'signs'> {
  readonly line: BodyLine
}

/** A parsed line. */
interface Body {
  readonly line: BodyLine
  readonly clientId: ClientId
  readonly body: Registration['body']
}

/** The issuer of the imported clients, and the rank of the caller for network settings. */
interface Target {
  readonly issuer: IssuerRecord
  readonly rank: NetworkRank
}

type ImportDeps = RegistrationDeps & { readonly db: Database }

/** `POST /v1/issuers/{issuer}/relying-parties/import`: registers thousands of clients in one transaction. */
export function registerImport(server: HttpServer, deps: ImportDeps): void {
  const { db } = deps
  const turn = createTurn()
  server.post(
    '/v1/issuers/:issuer/relying-parties/import',
    {
      config: WRITE,
      bodyLimit: BODY_BYTES_MAX,
      schema: {
        operationId: 'importRelyingParties',
        tags: ['Relying parties'],
        summary:
          'Register many relying parties, all or none. The body is NDJSON, with one line for each: the body of PUT with its client_id.',
        params: IssuerParams,
        querystring: Type.Object({
          dry_run: Type.Boolean({ default: false, description: 'Only check the lines, and change nothing.' }),
        }),
        body: Type.Unknown({ description: `Up to ${NDJSON_LINES_MAX} lines and ${BODY_BYTES_MAX} bytes.` }),
        response: { 200: Imported },
      },
      // The limit applies before the body is read.
      onRequest: async (request, reply) => turn.take(request.params.issuer, reply.raw),
      preParsing: async (_request, _reply, body) => withoutStalls(body as IncomingMessage),
    },
    (request): Promise<Imported> =>
      turn.during(request.raw, async () => {
        // A request without a body has no lines.
        const lines = (request.body ?? []) as readonly BodyLine[]
        const { dry_run: dryRun } = request.query
        if (lines.length === 0)
          throw refused([{ line: 1, client_id: null, pointer: '', detail: 'is empty' }], 0)
        for (let tries = 0; tries < TRIES_MAX; tries++) {
          const issuer = await issuerOr404(db, request.params.issuer)
          const target = { issuer, rank: networkRank(callerOf(request)) }
          const { found, notices } = await check(deps, target, lines)
          if (!dryRun) await signable(deps, found, lines.length)
          const result = await importRelyingParties(db, {
            issuer: issuer.name,
            issuerRevision: issuer.revision,
            outlines: found,
            drafts: () => draftsOf(deps, target, found),
            audit: partyChange(callerOf(request).name, deps.relay),
            quota: deps.relyingPartiesMax,
            dryRun,
          })
          if (result.ok) return { dry_run: dryRun, total: found.length, ...result.counts, notices }
          if (result.conflict === 'quota') throw overQuota(issuer.name, result)
          // Another change came first: check the lines again, and report faults by line.
        }
        throw new ProblemError({
          status: 503,
          detail:
            'Other requests kept changing these relying parties. Nothing was changed by this one. Send the request again in a moment.',
          headers: { 'retry-after': '1' },
        })
      }),
  )
}

/** Checks every line alone and against the others. @throws a 400 problem that lists all faults by line. */
async function check(
  deps: ImportDeps,
  target: Target,
  lines: readonly BodyLine[],
): Promise<{ found: readonly Line[]; notices: Imported['notices'] }> {
  const notices = createNotices()
  const faults: ImportFault[] = []
  const firsts = new Map<ClientId, number>()
  const found: Line[] = []
  for (const some of batchesOf(lines)) {
    await setImmediate()
    const { bodies, faults: wrong } = bodiesOf(some, firsts)
    faults.push(...wrong)
    for (const { line, registration } of await registrationsOf(deps, target, bodies)) {
      const { clientId, before } = registration
      const { read: registered, notices: codes } = readImportedClient(registration, deps)
      notices.add(clientId, codes)
      faults.push(...registered.faults.map((fault) => ({ line: line.line, client_id: clientId, ...fault })))
      if (registered.faults.length > 0) continue
      const { endpoints, signs } = await draftOf(registered, deps)
      const expected = before?.revision ?? null
      found.push({ issuer: target.issuer.name, clientId, endpoints, signs, line, expected })
    }
  }
  const taken = Map.groupBy(await takenUris(deps.db, target.issuer.name, found), ({ clientId }) => clientId)
  const double = found.filter(({ clientId }) => taken.has(clientId))
  const bodies = double.map(({ line, clientId }) => ({ line, clientId, body: bodyOf(line) }))
  for (const { line, registration } of await registrationsOf(deps, target, bodies)) {
    const { clientId } = registration
    // A credential that may import may see all clients of the issuer.
    const { read } = readImportedClient(registration, deps)
    const wrong = takenFaults(read, taken.get(clientId) ?? [], () => true)
    faults.push(...wrong.map((fault) => ({ line: line.line, client_id: clientId, ...fault })))
  }
  if (faults.length > 0) throw refused(faults, lines.length)
  return { found, notices: notices.list() }
}

/** The registrations of some lines, with the present registrations of their clients. */
async function registrationsOf(
  { db }: ImportDeps,
  { issuer, rank }: Target,
  bodies: readonly Body[],
): Promise<readonly { readonly line: BodyLine; readonly registration: Registration }[]> {
  const among = { issuer: issuer.name, clientIds: bodies.map(({ clientId }) => clientId) }
  const known = await findRelyingParties(db, among)
  const rulesLeft = await findNetworkRulesLeft(db, among)
  return bodies.map(({ line, clientId, body }) => {
    const before = known.get(clientId) ?? null
    const rule = before?.networkRule ?? rulesLeft.get(clientId) ?? null
    const networks = { rank, rule, named: true }
    return {
      line,
      registration: {
        issuer,
        clientId,
        body,
        before,
        networks,
        enableAgain: () => false,
        showsSecrets: false,
      },
    }
  })
}

/** Parses some lines. @param firsts the line of each client so far. The clients of these lines are added. */
function bodiesOf(lines: readonly BodyLine[], firsts: Map<ClientId, number>) {
  const faults: ImportFault[] = []
  const bodies: Body[] = []
  for (const bodyLine of lines) {
    const { line } = bodyLine
    const read = bodyLine.read()
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
      bodies.push({ line: bodyLine, clientId, body })
    } else {
      const detail = `is in line ${first} already`
      faults.push({ line, client_id: clientId, pointer: '/client_id', detail })
    }
  }
  return { bodies, faults }
}

/** Ensures that the issuer has the signing keys for the clients. @throws a 400 problem. */
async function signable(deps: ImportDeps, found: readonly Line[], total: number): Promise<void> {
  const unsigned = await keyFaults(found, deps)
  const faults = found.flatMap(({ line: { line }, clientId }) => {
    const fault = unsigned.get(clientId)
    return fault === undefined ? [] : [{ line, client_id: clientId, ...fault }]
  })
  if (faults.length > 0) throw refused(faults, total)
}

/** Makes drafts of valid lines, in batches. */
async function* draftsOf(
  deps: ImportDeps,
  target: Target,
  found: readonly Line[],
): AsyncGenerator<readonly RelyingPartyDraft[]> {
  for (const some of batchesOf(found)) {
    await setImmediate()
    const bodies = some.map(({ line, clientId }) => ({ line, clientId, body: bodyOf(line) }))
    const registrations = await registrationsOf(deps, target, bodies)
    yield await Promise.all(
      registrations.map(async ({ registration }) => {
        const {
          signs: _,
          newSecret: __,
          ...draft
        } = await draftOf(readImportedClient(registration, deps).read, deps)
        return draft
      }),
    )
  }
}

/** Parses a valid line again. */
function bodyOf(line: BodyLine): Registration['body'] {
  const read = line.read()
  if ('fault' in read) throw new Error(`line ${line.line} could be parsed before, and cannot be parsed again`)
  return read.value as Registration['body']
}

function* batchesOf<Item>(items: readonly Item[]): Generator<readonly Item[]> {
  for (let start = 0; start < items.length; start += BATCH) yield items.slice(start, start + BATCH)
}

/** Limits concurrent imports. An import has a turn from before its body is read until its answer and its work have ended. */
function createTurn() {
  const turns = createTurns({ ...IMPORTING, refusal: anotherImport })
  const held = new WeakMap<object, { readonly turn: Turn; working: boolean }>()
  return {
    /** Takes a turn. @param answer the turn ends when it closes, unless the work still runs. @throws a 429 problem. */
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
    /** Keeps the turn until `work` has ended, even if the caller disconnects. */
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
  const limit =
    why === 'caller' ? 'an issuer can have one import at a time' : `${IMPORTING.atOnce} can run at once`
  return new ProblemError({
    status: 429,
    title: 'Another import',
    detail: `Another import is under way, and ${limit}. Send the request again in a moment.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
  })
}

/** Passes a body on. It fails with a 408 problem if no byte arrives for `STALL_TICKS` ticks. */
function withoutStalls(body: Readable): Readable {
  let idle = 0
  const watched = new Transform({
    transform(chunk, _encoding, done) {
      idle = 0
      done(null, chunk)
    },
  })
  // Short ticks are counted, because one long timer would also fire after this process was busy.
  const ticking = setInterval(() => {
    idle += 1
    if (idle < STALL_TICKS) return
    body.unpipe(watched)
    watched.destroy(stalled())
  }, TICK_MS)
  // A body with a refused media type has no reader, so its error would be unhandled.
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
    detail:
      'The body stalled for seconds, and was given up so that other imports can run. Send the whole request again.',
    headers: { connection: 'close' },
  })
}

function refused(faults: readonly ImportFault[], total: number): ProblemError {
  const sorted = faults.toSorted((a, b) => a.line - b.line)
  const lines = new Set(faults.map(({ line }) => line)).size
  return new ProblemError({
    status: 400,
    title: 'Invalid import',
    detail: `${lines} of ${total} lines have faults. Nothing was changed. Correct the faults in faults and send the request again.`,
    extensions: {
      faults: sorted.slice(0, FAULTS_MAX),
      faults_left_out: Math.max(0, faults.length - FAULTS_MAX),
    },
  })
}
