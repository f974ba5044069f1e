import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Readable, Transform } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { Imported, type ImportFault, type Scope } from '@curfew/contract'
import { type ClientId, type NetworkRank, NoSigningKeyError, type TokenAlgorithm } from '@curfew/domain'
import {
  findNetworkRulesLeft,
  findRelyingParties,
  type IssuerRecord,
  importRelyingParties,
  type RelyingPartyDraft,
  type RelyingPartyOutline,
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
import { type Body, leftOutOf, parseLine, parseLines, readLine } from '../imports/lines.ts'
import { createNotices, createPassedOver } from '../imports/notices.ts'
import { IssuerParams, issuerOr404, namesOnlySubjects } from './issuers.ts'
import { networkRank } from './networks.ts'
import { partyChange } from './party-view.ts'
import {
  draftOf,
  type Registration,
  requiresSession,
  type SignedDraft,
  signaturesOf,
} from './registration.ts'
import { overQuota, type RelyingPartiesDeps } from './relying-parties.ts'

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
interface Line extends RelyingPartyOutline, Pick<SignedDraft, 'signs'> {
  readonly line: BodyLine
}

/** The valid lines of an import, and the faults of the others. */
interface Checked {
  readonly found: readonly Line[]
  readonly faults: readonly ImportFault[]
  readonly notices: ReturnType<typeof createNotices>
  readonly over: ReturnType<typeof createPassedOver>
  /** Numbers of clients with an endpoint: all, and by channel. */
  readonly endpoints: Imported['endpoints']
}

/** The issuer of the imported clients, and the rank of the caller for network settings. */
interface Target {
  readonly issuer: IssuerRecord
  readonly rank: NetworkRank
}

/** `POST /v1/issuers/{issuer}/relying-parties/import`: registers thousands of clients in one transaction. */
export function registerImport(server: HttpServer, deps: RelyingPartiesDeps): void {
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
          'Register many relying parties, all or none, or with skip_invalid all but the invalid ones. The body is NDJSON, with one line for each: the body of PUT with its client_id.',
        params: IssuerParams,
        querystring: Type.Object({
          dry_run: Type.Boolean({ default: false, description: 'Only check the lines, and change nothing.' }),
          skip_invalid: Type.Boolean({
            default: false,
            description: 'Import the valid lines although others have faults, and list these in skipped.',
          }),
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
        const { dry_run: dryRun, skip_invalid: skipInvalid } = request.query
        if (lines.length === 0)
          throw refused([{ line: 1, client_id: null, pointer: '', detail: 'is empty' }], 0)
        for (let tries = 0; tries < TRIES_MAX; tries++) {
          const issuer = await issuerOr404(db, request.params.issuer)
          const target = { issuer, rank: networkRank(callerOf(request)) }
          const checked = await check(deps, target, lines)
          const { found, faults } = checked
          if (faults.length > 0 && !skipInvalid) throw refused(faults, lines.length)
          await ensureKeys(deps, checked, { issuer: issuer.name, dryRun })
          const result = await importRelyingParties(db, {
            issuer: issuer.name,
            issuerRevision: issuer.revision,
            outlines: found,
            drafts: () => draftsOf(deps, target, found),
            audit: partyChange(callerOf(request).name, deps.relay),
            quota: deps.relyingPartiesMax,
            dryRun,
          })
          if (result.ok) return importedOf(checked, result.counts, dryRun)
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

/** Checks every line alone and against the others. */
async function check(deps: RelyingPartiesDeps, target: Target, lines: readonly BodyLine[]): Promise<Checked> {
  const { issuer } = target
  const notices = createNotices(issuer.name)
  const faults: ImportFault[] = []
  const firsts = new Map<ClientId, number>()
  const found: Line[] = []
  const channels: Record<string, number> = {}
  const over = createPassedOver()
  let notified = 0
  const unnamed = await namesOnlySubjects(deps.db, issuer)
  for (const some of batchesOf(lines)) {
    await setImmediate()
    const parsed = parseLines(some, firsts)
    faults.push(...parsed.faults)
    over.add(parsed.over)
    for (const { line, leftOut, registration } of await registrationsOf(deps, target, parsed.bodies)) {
      const { clientId, before } = registration
      const its = readLine(registration, leftOut, deps)
      const passed = leftOutOf(registration.body, its)
      if (passed !== null) {
        over.add([passed])
        continue
      }
      faults.push(...its.faults.map((fault) => ({ line: line.line, client_id: clientId, ...fault })))
      if (its.faults.length > 0) continue
      notices.add(clientId, its.notices)
      if (unnamed && requiresSession(its.read)) notices.add(clientId, [{ code: 'session_required' }])
      if (its.channels.length > 0) notified += 1
      for (const channel of its.channels) channels[channel] = (channels[channel] ?? 0) + 1
      const expected = before?.revision ?? null
      found.push({ clientId, signs: signaturesOf(its.read), line, expected })
    }
  }
  return { found, faults, notices, over, endpoints: { clients: notified, channels } }
}

/** The answer to an import that was done. */
function importedOf(
  { found, faults, notices, over, endpoints }: Checked,
  counts: Pick<Imported, 'created' | 'changed' | 'unchanged'>,
  dryRun: boolean,
): Imported {
  return {
    ...{ dry_run: dryRun, total: found.length, ...counts, passed_over: over.list(), endpoints },
    skipped: { total: linesOf(faults), ...listed(faults) },
    notices: notices.list(),
  }
}

/** The registrations of some lines, with the present registrations of their clients. */
async function registrationsOf(
  { db }: RelyingPartiesDeps,
  { issuer, rank }: Target,
  bodies: readonly Body[],
): Promise<readonly (Pick<Body, 'line' | 'leftOut'> & { readonly registration: Registration })[]> {
  const among = { issuer: issuer.name, clientIds: bodies.map(({ clientId }) => clientId) }
  const known = await findRelyingParties(db, among)
  const rulesLeft = await findNetworkRulesLeft(db, among)
  return bodies.map(({ line, leftOut, clientId, body }) => {
    const before = known.get(clientId) ?? null
    const rule = before?.networkRule ?? rulesLeft.get(clientId) ?? null
    const networks = { rank, rule, named: true }
    return {
      ...{ line, leftOut },
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

/** Makes the keys that the clients need, if the import is no dry run. A client whose key cannot be made gets a notice. */
async function ensureKeys(
  deps: RelyingPartiesDeps,
  { found, notices }: Checked,
  { issuer, dryRun }: { readonly issuer: IssuerRecord['name']; readonly dryRun: boolean },
): Promise<void> {
  const signed = found.flatMap(({ signs, ...line }) => signs.map((signature) => ({ ...line, ...signature })))
  for (const [algorithm, its] of Map.groupBy(signed, (line) => line.algorithm)) {
    const possible =
      (await deps.hasKey(issuer, algorithm)) && (dryRun || (await isEnsured(deps, issuer, algorithm)))
    if (possible) continue
    for (const { clientId } of its) notices.add(clientId, [{ code: 'no_signing_key', why: algorithm }])
  }
}

async function isEnsured(
  { ensureKey }: RelyingPartiesDeps,
  issuer: IssuerRecord['name'],
  algorithm: TokenAlgorithm,
): Promise<boolean> {
  try {
    await ensureKey(issuer, algorithm)
    return true
  } catch (error) {
    if (error instanceof NoSigningKeyError) return false
    throw error
  }
}

/** Makes drafts of valid lines, in batches. */
async function* draftsOf(
  deps: RelyingPartiesDeps,
  target: Target,
  found: readonly Line[],
): AsyncGenerator<readonly RelyingPartyDraft[]> {
  for (const some of batchesOf(found)) {
    await setImmediate()
    const registrations = await registrationsOf(
      deps,
      target,
      some.map(({ line }) => bodyOf(line)),
    )
    yield await Promise.all(
      registrations.map(async ({ leftOut, registration }) => {
        const {
          signs: _,
          newSecret: __,
          ...draft
        } = await draftOf(readLine(registration, leftOut, deps).read, deps)
        return draft
      }),
    )
  }
}

/** Parses a valid line again, and validates it again, which removes members that are null. */
function bodyOf(line: BodyLine): Body {
  const body = parseLine(line)
  if (!('clientId' in body)) throw new Error(`line ${line.line} was valid before, and is not now`)
  return body
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
  return new ProblemError({
    status: 400,
    title: 'Invalid import',
    detail: `${linesOf(faults)} of ${total} lines have faults. Nothing was changed. Correct the faults in faults and send the request again, or add skip_invalid=true to import the other lines.`,
    extensions: listed(faults),
  })
}

/** The number of lines with faults. */
function linesOf(faults: readonly ImportFault[]): number {
  return new Set(faults.map(({ line }) => line)).size
}

function listed(faults: readonly ImportFault[]) {
  const sorted = faults.toSorted((a, b) => a.line - b.line)
  return { faults: sorted.slice(0, FAULTS_MAX), faults_left_out: Math.max(0, faults.length - FAULTS_MAX) }
}
