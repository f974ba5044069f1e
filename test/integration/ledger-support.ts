import { createHash, hash, randomBytes, randomUUID } from 'node:crypto'
import {
  type AttemptOutcome,
  type Binding,
  type BindingId,
  type ClientId,
  DEFAULT_RELAY,
  type DeliveryId,
  eventIdOf,
  type InFlightDelivery,
  type Issuer,
  type IssuerName,
  type KnownSessions,
  type LogoutEvent,
  plan,
  type Settlement,
  type Subject,
  sameContent,
  uuidV7,
  type WorkerId,
} from '@curfew/domain'
import {
  type Database,
  type Lease,
  type PlannedEvent,
  planEvents,
  putIssuer,
  putRelyingParties,
  type Registry,
  type RelyingPartyDraft,
  readRegistry,
  registerWorker,
  type Settled,
  type Slots,
  type StoredSettings,
} from '@curfew/ledger'

export const ISS = 'https://idp.example' as Issuer
const NAME = 'main' as IssuerName
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const audit = () => ({ credential: 'test', action: 'test', object: '/', detail: {} })

let leases = 0
/** A lease with a number that no statement has used. */
export function newLease(workerId: WorkerId): Lease {
  leases += 1
  return { workerId, number: leases }
}

/** Registers an issuer with `count` relying parties. */
export async function register(db: Database, count: number): Promise<Registry> {
  await putIssuer(
    db,
    {
      name: NAME,
      iss: ISS,
      slaWithinMs: 5_000,
      slaObjective: 0.999,
      sidSupported: true,
      sessionIndex: 'partial',
      relay: DEFAULT_RELAY,
      slaWindowDays: 30,
      defaults: {},
    },
    { audit },
  )
  for (let number = 0; number < count; number++) await registerParty(db, `rp-${number}`)
  return readRegistry(db)
}

/** A channel of a relying party in a test. */
export type TestChannel = Pick<Binding, 'kind' | 'fallbackFor'> &
  Partial<Pick<Binding, 'counts' | 'offer' | 'names' | 'widens' | 'always'>> & { readonly name?: string }
export const BACKCHANNEL: TestChannel = { kind: 'backchannel', fallbackFor: null }

/** @param channels every channel gets one endpoint; two channels of one kind differ by `name`. */
export async function registerParty(
  db: Database,
  clientId: string,
  settings: StoredSettings = {},
  channels: readonly TestChannel[] = [BACKCHANNEL],
): Promise<void> {
  const draft: RelyingPartyDraft = {
    issuer: NAME,
    clientId: clientId as ClientId,
    metadata: {},
    settings,
    clientName: null,
    endpoints: channels.map((channel) => ({
      ...{ name: 'main', uri: `https://rp.example/${clientId}`, disabledReason: null },
      ...{
        settings: {},
        step: 'notify',
        offer: null,
        widens: true,
        always: false,
        sealedSecret: null,
        counts: 'done',
      },
      names: settings.subject_claims === 'sub' ? 'subject' : 'either',
      ...channel,
    })),
  }
  await putRelyingParties(db, { issuer: NAME, drafts: [draft], audit })
}

export function bindingsOf(registry: Registry): readonly Binding[] {
  return registry.issuers.get(ISS)?.bindings ?? []
}

export async function newWorker(db: Database): Promise<WorkerId> {
  const id = randomUUID() as WorkerId
  await registerWorker(db, { id, name: 'test' })
  return id
}

/** Moves a worker's last heartbeat `ms` milliseconds into the past. */
export async function silence(db: Database, id: WorkerId, ms: number): Promise<void> {
  await db.query('update workers set seen_at = seen_at - make_interval(secs => $2) where id = $1', [
    id,
    ms / 1_000,
  ])
}

export function newEvent(
  change: { readonly id?: string; readonly sub?: string; readonly lane?: 'bulk' } = {},
): LogoutEvent {
  const now = new Date()
  const givenId = (change.id ?? uuidV7(now, randomBytes(10))) as LogoutEvent['givenId']
  const id = (change.id as LogoutEvent['id'] | undefined) ?? eventIdOf(ISS, givenId, sha256)
  return {
    ...{ id, givenId },
    iss: ISS,
    scope: 'subject',
    // A different subject every time: a second logout of one subject would supersede the first.
    sub: (change.sub ?? randomUUID()) as Subject,
    sid: null,
    reason: 'user',
    initiator: null,
    includeInitiator: false,
    clients: null,
    lane: change.lane ?? 'interactive',
    occurredAt: now,
    acceptedAt: now,
  }
}

/** The plan that intake makes of an event for `bindings`. */
export function planFor(
  event: LogoutEvent,
  bindings: readonly Binding[],
  {
    leased = true,
    known = { kind: 'silent' },
    traceparent = null,
  }: { leased?: boolean; known?: KnownSessions; traceparent?: string | null } = {},
): PlannedEvent {
  const { basis, deliveries } = plan(
    { ...event, traceparent },
    { bindings, sessionIndex: 'partial' },
    known,
    sha256,
  )
  return {
    event,
    digest: sha256(sameContent(event)),
    basis,
    traceparent,
    deliveries: deliveries.map((owed) => ({ ...owed, leased })),
  }
}

/** The same number of slots in both lanes. */
export const both = (slots: number): Slots => ({ interactive: slots, bulk: slots })

/** Plans `count` events for `bindings`. @returns their deliveries. */
export async function planned(
  db: Database,
  registry: Registry,
  {
    workerId,
    count = 1,
    leased = true,
    bindings = bindingsOf(registry),
  }: { workerId: WorkerId; count?: number; leased?: boolean; bindings?: readonly Binding[] },
): Promise<readonly InFlightDelivery[]> {
  const batch = Array.from({ length: count }, () => planFor(newEvent(), bindings, { leased }))
  const result = await planEvents(db, {
    batch,
    lease: newLease(workerId),
    registryRevision: registry.revision,
    now: new Date(),
  })
  if (!result.ok || result.planned.size !== count) throw new Error(`not planned: ${JSON.stringify(result)}`)
  return batch.flatMap(({ deliveries }) => deliveries.map(({ delivery }) => delivery))
}

/** Inserts `count` deliveries directly: planning so many would take too long. */
export async function pile(
  db: Database,
  bindingId: BindingId,
  count: number,
  state: 'pending' | 'acknowledged',
): Promise<void> {
  const event = newEvent()
  await db.query({
    text: `insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
           values ($1, $1, '\\x00', $2, 'alice', 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered')`,
    values: [event.id, ISS],
  })
  await db.query({
    text: `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, due_at, attempts, settled_at, level)
           select gen_random_uuid(), $1, $2, $3, 'interactive', now(),
             case when $3 = 'pending' then now() - make_interval(secs => n) end, 1,
             case when $3 <> 'pending' then now() end, case when $3 <> 'pending' then 'done' end
             from generate_series(1, $4::int) n`,
    values: [event.id, bindingId, state, count],
  })
}

export const ACKNOWLEDGED: AttemptOutcome = { kind: 'acknowledged', level: 'done', status: 200 }

/** The settlement of `delivery` by a worker: by default one acknowledged attempt. */
export function settledAs(
  delivery: Pick<InFlightDelivery, 'id' | 'attempts' | 'event' | 'sessionEndsAt'>,
  settlement: Settlement = { state: 'acknowledged', level: 'done' },
  outcomes: readonly AttemptOutcome[] = [ACKNOWLEDGED],
): Settled {
  return {
    id: delivery.id,
    attempts: outcomes.map((outcome, index) => ({
      number: delivery.attempts + index + 1,
      startedAt: new Date(),
      durationMs: 1.6,
      outcome,
      jti: randomUUID(),
      tokenDigest: hash('sha256', 'a token', 'hex'),
    })),
    settlement,
    leased: { ...delivery, retries: 0, refusals: 0 },
  }
}

export interface DeliveryRow {
  readonly id: DeliveryId
  readonly event_id: string
  readonly binding_id: BindingId
  readonly attempts: number
  readonly retries: number
  readonly refusals: number
  readonly state: string
  readonly lane: string
  readonly due_at: Date | null
  readonly leased_by: string | null
  readonly leased_at: Date | null
  readonly settled_at: Date | null
  readonly level: string | null
  readonly dead_letter_reason: string | null
}

export async function readDeliveries(db: Database): Promise<readonly DeliveryRow[]> {
  return (await db.query<DeliveryRow>('select * from deliveries order by id')).rows
}

export async function readDelivery(db: Database, id: string): Promise<DeliveryRow> {
  const [row] = (await db.query<DeliveryRow>('select * from deliveries where id = $1', [id])).rows
  if (row === undefined) throw new Error(`no delivery ${id}`)
  return row
}

export async function count(db: Database, what: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(`select count(*) as count from ${what}`)
  return rows[0]?.count ?? 0
}
