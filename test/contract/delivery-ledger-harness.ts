import {
  type Binding,
  type BindingId,
  type ClientId,
  DEFAULT_RETRY_POLICY,
  type DeliveryId,
  type EventKey,
  type IssuerName,
  type Level,
  type Session,
  type SessionIndexUse,
} from '@curfew/domain'
import {
  acknowledgeFetched,
  createDeliveryLedger,
  type DeliveryLedger,
  endOffers,
  followSettled,
  newGeneration,
  projectJournal,
  projectSessions,
} from '@curfew/ledger'
import { BACKCHANNEL, ISS, register, registerParty, type TestChannel } from '../integration/ledger-support.ts'
import { createTestDatabase } from '../support/database.ts'
import { createMemoryLedger, type MemoryLedger } from '../support/memory-ledger.ts'
import { forgetSessions, insertSession, type SessionState, sessionsOf } from '../support/session-rows.ts'

/** The columns of a row of `deliveries` that affect behaviour. */
export interface LedgerRow {
  readonly id: DeliveryId
  readonly bindingId: BindingId
  readonly state: string
  readonly attempts: number
  readonly retries: number
  readonly refusals: number
  readonly dueAt: Date | null
  readonly leasedBy: string | null
  readonly settledAt: Date | null
  readonly level: string | null
  readonly deadLetterReason: string | null
  readonly supersededBy: string | null
  readonly evidence: string | null
}

/** A ledger, and the operations that tests need beyond its port. */
export interface DeliveryLedgerHarness {
  readonly ledger: DeliveryLedger
  /** Empties the ledger, and registers the issuer with two relying parties. */
  reset(): Promise<void>
  registerParty(clientId: string, channels?: readonly TestChannel[]): Promise<void>
  /** Removes a relying party. */
  removeParty(clientId: string): Promise<void>
  /** Sets how plans use the session index of the issuer. A reset sets `partial`. */
  useIndex(use: SessionIndexUse): Promise<void>
  /** Makes clients pairwise. A reset makes all public. */
  makePairwise(...clientIds: readonly string[]): Promise<void>
  rows(): Promise<readonly LedgerRow[]>
  /** Recorded attempts, by delivery and number. */
  attempts(): Promise<readonly { readonly id: string; readonly number: number; readonly outcome: string }[]>
  /** The open breakers, by binding and the worker that reported them. */
  breakers(): Promise<readonly { readonly bindingId: BindingId; readonly workerId: string }[]>
  /** Runs `during`. @returns the keys of the events that followers hear of meanwhile, in order. */
  announced(during: () => Promise<void>): Promise<readonly EventKey[]>
  /** Puts a session into the index. */
  startSession(session: Session): Promise<void>
  /** Settles offered deliveries that their relying party has fetched. @returns those that were still offered. */
  acknowledgeFetched(
    ids: readonly DeliveryId[],
    how: { readonly level: Level; readonly evidence: string },
  ): Promise<readonly DeliveryId[]>
  /** Ends the offers. @param late first lets the time of every offer pass. Default true. @returns their deliveries. */
  endOffers(how?: { readonly late: boolean }): Promise<readonly DeliveryId[]>
  /** Replays every dead letter as an operator does. */
  replay(): Promise<void>
  /** Projects what was planned and settled into the session index. */
  projectIndex(): Promise<void>
  /** The sessions of a subject in the index, by client and sid. Default: alice. */
  sessions(sub?: string): Promise<readonly SessionState[]>
  /** Makes every heartbeat, every lease and every settlement older by this many milliseconds. */
  age(ms: number): Promise<void>
  /** The approximate time of the database. */
  now(): Date
  close(): Promise<void>
}

const PARTIES = 2
/** How long the deliveries of a test's pull channel are offered. */
export const OFFER_MS = 60_000
/** The key of no event. It marks the end of the announcements. */
const LAST = '0'.repeat(15) as EventKey

/** A binding without special settings. */
function bindingOf(id: number, clientId: string, channel: TestChannel): Binding {
  return {
    id: id as BindingId,
    endpoint: 'main',
    issuer: 'main' as IssuerName,
    iss: ISS,
    clientId: clientId as ClientId,
    uri: 'https://rp.example/logout',
    settings: {},
    offer: null,
    names: 'either',
    widens: true,
    always: false,
    sealedSecret: null,
    timeoutMs: 10_000,
    concurrency: null,
    ratePerSecond: null,
    traceContext: false,
    retry: DEFAULT_RETRY_POLICY,
    allowedNetworks: [],
    tls: null,
    counts: 'done',
    disabledReason: null,
    ...channel,
  }
}

/** Opens the memory ledger. Its clock is the test's, and goes forward when the test lets time pass. */
export async function openMemoryHarness(): Promise<DeliveryLedgerHarness> {
  let aheadMs = 0
  let ledger: MemoryLedger
  const ids = new Map<string, number>()
  const now = () => new Date(Date.now() + aheadMs)
  const removeParty = async (clientId: string) => {
    const { bindings } = await ledger.readRegistry()
    for (const binding of bindings.values()) {
      if (binding.clientId === clientId) ledger.removeBinding(binding.id)
    }
  }
  const registerParty = async (clientId: string, channels: readonly TestChannel[] = [BACKCHANNEL]) => {
    await removeParty(clientId)
    for (const channel of channels) {
      // A channel that is registered again keeps its id.
      const key = `${clientId} ${channel.kind}`
      const id = ids.get(key) ?? ids.size + 1
      ids.set(key, id)
      ledger.putBinding(bindingOf(id, clientId, channel))
    }
  }
  return {
    get ledger(): DeliveryLedger {
      return ledger
    },
    async reset() {
      aheadMs = 0
      ids.clear()
      ledger = createMemoryLedger({ now })
      for (let number = 0; number < PARTIES; number++) await registerParty(`rp-${number}`)
    },
    registerParty,
    removeParty,
    useIndex: async (use) => ledger.putIssuer(ISS, use),
    async makePairwise(...clientIds) {
      ledger.setPairwise({ byDefault: false, except: new Set(clientIds as readonly ClientId[]) })
    },
    async rows() {
      return [...ledger.deliveries.values()]
        .map(
          ({
            eventId,
            target,
            lane,
            plannedAt,
            delivery,
            leasedAt,
            generation,
            offerMs,
            ...row
          }): LedgerRow => row,
        )
        .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    },
    async attempts() {
      return ledger.attempts.map(({ deliveryId, number, outcome }) => ({
        id: deliveryId,
        number,
        outcome: outcome.kind,
      }))
    },
    breakers: async () => ledger.breakers,
    async announced(during) {
      await during()
      return ledger.announced
    },
    startSession: async (session) => ledger.startSession(session),
    acknowledgeFetched: async (ids, how) => ledger.acknowledgeFetched(ids, how),
    async endOffers({ late } = { late: true }) {
      if (late) aheadMs += OFFER_MS
      return ledger.endOffers()
    },
    replay: async () => void ledger.replay(),
    projectIndex: async () => ledger.projectSessions(),
    async sessions(sub = 'alice') {
      return ledger.sessionRows
        .filter(({ goneAt, session }) => goneAt === null && session.sub === sub)
        .map(({ session: { clientId, sid }, logoutEventId, orphanedAt }) => ({
          ...{ clientId, sid, logoutEventId, orphaned: orphanedAt !== null },
        }))
        .toSorted((a, b) => (`${a.clientId} ${a.sid}` < `${b.clientId} ${b.sid}` ? -1 : 1))
    },
    async age(ms) {
      aheadMs += ms
    },
    now,
    close: async () => undefined,
  }
}

/** Opens the PostgreSQL ledger. The clock of a server cannot be moved, so time passes by making rows older. */
export async function openPostgresHarness(): Promise<DeliveryLedgerHarness> {
  const { db, url, drop } = await createTestDatabase({ poolMax: 4 })
  return {
    ledger: createDeliveryLedger(db),
    async reset() {
      await db.query(
        'truncate events, deliveries, attempts, workers, leases, bindings, relying_parties, issuers, journal cascade',
      )
      await forgetSessions(db)
      await register(db, PARTIES)
    },
    registerParty: (clientId, channels) => registerParty(db, clientId, {}, channels),
    async removeParty(clientId) {
      const removed = 'update relying_parties set deleted_at = now() where client_id = $1 returning id'
      await db.query(
        `with removed as (${removed}) update bindings set registered = false where relying_party_id in (table removed)`,
        [clientId],
      )
    },
    async useIndex(use) {
      await db.query('update issuers set session_index = $1', [use])
      await db.query('update registry_revision set revision = revision + 1')
    },
    async makePairwise(...clientIds) {
      const set = "update relying_parties set subject_type = 'pairwise' where client_id = any($1::text[])"
      await db.query(set, [clientIds])
      await db.query('update registry_revision set revision = revision + 1')
    },
    async rows() {
      const { rows } = await db.query<LedgerRow>(
        `select id, binding_id as "bindingId", state, attempts, retries, refusals, due_at as "dueAt",
           leased_by as "leasedBy", settled_at as "settledAt", level, dead_letter_reason as "deadLetterReason",
           superseded_by as "supersededBy", evidence
           from deliveries order by id`,
      )
      return rows
    },
    async attempts() {
      const { rows } = await db.query<{ id: string; number: number; outcome: string }>(
        'select delivery_id as id, number, outcome from attempts',
      )
      return rows
    },
    async breakers() {
      const { rows } = await db.query<{ bindingId: BindingId; workerId: string }>(
        'select binding_id as "bindingId", worker_id as "workerId" from breakers',
      )
      return rows
    },
    async announced(during) {
      const heard: EventKey[] = []
      const { promise: connected, resolve: onConnected } = Promise.withResolvers<void>()
      const last = Promise.withResolvers<void>()
      const stopping = new AbortController()
      const follower = {
        onConnected,
        onSettled(keys: readonly EventKey[]) {
          if (keys.includes(LAST)) last.resolve()
          else heard.push(...keys)
        },
        onError: last.reject,
      }
      const following = followSettled(url, follower, stopping.signal)
      await connected
      await during()
      await db.query("select pg_notify('curfew_settled', $1)", [LAST])
      await last.promise
      stopping.abort()
      await following
      return heard
    },
    async startSession(session) {
      const { device, ...others } = session
      await insertSession(db, { ...others, ...(device !== null && { device }) })
    },
    async acknowledgeFetched(ids, how) {
      const { rows } = await db.query<{ id: DeliveryId; bindingId: BindingId }>(
        'select id, binding_id as "bindingId" from deliveries where id = any($1::uuid[])',
        [ids],
      )
      return acknowledgeFetched(
        db,
        rows.map(({ id, bindingId }) => ({ ...how, bindingId, deliveryIds: [id] })),
      )
    },
    async endOffers({ late } = { late: true }) {
      if (late) await db.query("update deliveries set due_at = now() where state = 'offered'")
      return endOffers(db, { limit: 100 })
    },
    async replay() {
      await db.query(`update deliveries d set ${newGeneration()} where state = 'dead_lettered'`)
    },
    async projectIndex() {
      while ((await projectJournal(db, { limit: 100, projectors: [projectSessions] })) !== 0);
    },
    sessions: (sub = 'alice') => sessionsOf(db, sub),
    async age(ms) {
      await db.query('update workers set seen_at = seen_at - make_interval(secs => $1)', [ms / 1_000])
      for (const table of ['deliveries', 'leases']) {
        await db.query(`update ${table} set leased_at = leased_at - make_interval(secs => $1)`, [ms / 1_000])
      }
      await db.query('update deliveries set settled_at = settled_at - make_interval(secs => $1)', [
        ms / 1_000,
      ])
    },
    now: () => new Date(),
    close: drop,
  }
}
