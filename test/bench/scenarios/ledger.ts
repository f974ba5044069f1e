import { createHash, hash, randomBytes, randomUUID } from 'node:crypto'
import {
  type Binding,
  type ClientId,
  DEFAULT_RELAY,
  eventIdOf,
  type Issuer,
  type IssuerName,
  type LogoutEvent,
  plan,
  type Subject,
  sameContent,
  uuidV7,
  type WorkerId,
} from '@curfew/domain'
import {
  type Database,
  migrate,
  openDatabase,
  type PlannedEvent,
  planEvents,
  putIssuer,
  putRelyingParties,
  readRegistry,
  registerWorker,
  settleDeliveries,
} from '@curfew/ledger'
import { ISS } from '../load.ts'
import { openPostgres } from '../postgres.ts'
import type { Row } from '../scenarios.ts'
import type { Settings } from '../turns.ts'

const EVENTS = 200
const NAME = 'main' as IssuerName
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const audit = () => ({ credential: 'bench', action: 'bench', object: '/', detail: {} })

/** Measures the ledger alone: plans and settlements at full speed, compared with plain inserts of as many rows. */
export async function ledger({ seconds, rounds, rps, progress }: Settings): Promise<readonly Row[]> {
  await using postgres = await openPostgres(progress)
  await using stack = new AsyncDisposableStack()
  const db = await openDatabase(postgres.url, { poolMax: 4 })
  stack.defer(() => db.end())
  await migrate(db)
  for (const statement of BARE_TABLES) await db.query(statement)
  const { bindings, revision } = await registerParties(db, rps)
  const workerId = randomUUID() as WorkerId
  await registerWorker(db, { id: workerId, name: 'bench' })

  let leases = 0

  /** Writes one batch from plan to settlement, as a worker does. @returns the number of deliveries. */
  async function write(): Promise<number> {
    const now = new Date()
    const batch = Array.from({ length: EVENTS }, () => planned(bindings, now))
    leases += 1
    const lease = { workerId, number: leases }
    const result = await planEvents(db, { batch, lease, registryRevision: revision, now })
    if (!result.ok) throw new Error(`not planned: ${result.why}`)
    const deliveries = batch.flatMap((event) => event.deliveries.map(({ delivery }) => delivery))
    const lost = await settleDeliveries(db, {
      workerId,
      now,
      batch: deliveries.map((delivery) => ({
        id: delivery.id,
        attempts: [
          {
            number: 1,
            startedAt: now,
            durationMs: 12,
            outcome: { kind: 'acknowledged', level: 'done', status: 200 },
            jti: randomUUID(),
            tokenDigest: hash('sha256', 'a token', 'hex'),
          },
        ],
        settlement: { state: 'acknowledged', level: 'done' },
        leased: delivery,
      })),
    })
    if (lost.size > 0) throw new Error(`${lost.size} of ${deliveries.length} were not settled`)
    return deliveries.length
  }

  /** Inserts the rows that such a batch leaves in the ledger, once, into tables that have only a primary key. */
  async function insert(): Promise<number> {
    const batch = Array.from({ length: EVENTS }, () => planned(bindings, new Date()))
    const deliveries = batch.flatMap((event) => event.deliveries.map(({ delivery }) => delivery))
    await db.query({
      name: 'bare_insert',
      text: BARE_INSERT,
      values: [
        batch.map(({ event }) => event.id),
        batch.map(({ digest }) => digest),
        batch.map(({ event }) => event.sub),
        deliveries.map(({ id }) => id),
        deliveries.map(({ eventId }) => eventId),
        deliveries.map(({ bindingId }) => bindingId),
        deliveries.map(() => randomUUID()),
      ],
    })
    return deliveries.length
  }

  /** Runs two loops, so that one batch is prepared while the other commits. @returns deliveries per second. */
  async function turn(work: () => Promise<number>): Promise<number> {
    const startedMs = performance.now()
    let done = 0
    const loop = async () => {
      while (performance.now() - startedMs < seconds * 1_000) done += await work()
    }
    await Promise.all([loop(), loop()])
    return done / ((performance.now() - startedMs) / 1_000)
  }

  await turn(write)
  const [values, bare]: [number[], number[]] = [[], []]
  for (let round = 1; round <= rounds; round++) {
    bare.push(await turn(insert))
    values.push(await turn(write))
    progress(
      `round ${round} of ${rounds}: bare ${bare.at(-1)?.toFixed(0)}/s, ledger ${values.at(-1)?.toFixed(0)}/s`,
    )
  }
  return [
    {
      measured: `deliveries planned and settled in batches of ${EVENTS * rps}, 1/s`,
      values,
      beside: { what: 'their rows inserted, once', values: bare },
    },
  ]
}

const BARE_TABLES = [
  `create table bare_events (id uuid primary key, digest bytea, iss text, sub text, scope text, lane text,
     occurred_at timestamptz, accepted_at timestamptz, planned_at timestamptz)`,
  `create table bare_deliveries (id uuid primary key, event_id uuid, binding_id bigint, state text, lane text,
     planned_at timestamptz, leased_by uuid, leased_at timestamptz, settled_at timestamptz, level text)`,
  `create table bare_attempts (delivery_id uuid, number smallint, started_at timestamptz, duration_ms integer,
     outcome text, status smallint, jti uuid, worker_id uuid, primary key (delivery_id, number))`,
]

const BARE_INSERT = `
  with e as (
    insert into bare_events
    select id, decode(digest, 'hex'), '${ISS}', sub, 'subject', 'interactive', now(), now(), now()
      from unnest($1::uuid[], $2::text[], $3::text[]) as e(id, digest, sub)
  ),
  d as (
    insert into bare_deliveries
    select id, event_id, binding_id, 'acknowledged', 'interactive', now(), jti, now(), now(), 'done'
      from unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::uuid[]) as d(id, event_id, binding_id, jti)
  )
  insert into bare_attempts
  select id, 1, now(), 12, 'acknowledged', 200, jti, jti from unnest($4::uuid[], $7::uuid[]) as a(id, jti)`

async function registerParties(
  db: Database,
  count: number,
): Promise<{ readonly bindings: readonly Binding[]; readonly revision: number }> {
  await putIssuer(
    db,
    {
      name: NAME,
      iss: ISS as Issuer,
      slaWithinMs: 5_000,
      slaObjective: 0.999,
      slaWindowDays: 30,
      sidSupported: true,
      sessionIndex: 'partial',
      relay: DEFAULT_RELAY,
      defaults: {},
    },
    { audit },
  )
  const drafts = Array.from({ length: count }, (_, number) => ({
    issuer: NAME,
    clientId: `rp-${number}` as ClientId,
    metadata: {},
    settings: {},
    clientName: null,
    endpoints: [
      {
        kind: 'backchannel',
        name: 'main',
        uri: `https://rp.example/${number}`,
        settings: {},
        step: 'notify' as const,
        offer: null,
        names: 'either' as const,
        widens: true,
        always: false,
        sealedSecret: null,
        counts: 'done' as const,
        fallbackFor: null,
        disabledReason: null,
      },
    ],
  }))
  await putRelyingParties(db, { issuer: NAME, drafts, audit })
  const registry = await readRegistry(db)
  return { bindings: registry.issuers.get(ISS as Issuer)?.bindings ?? [], revision: registry.revision }
}

/** A logout of a new user, as intake plans it. */
function planned(bindings: readonly Binding[], now: Date): PlannedEvent {
  const [iss, givenId] = [ISS as Issuer, uuidV7(now, randomBytes(10)) as LogoutEvent['givenId']]
  const event: LogoutEvent = {
    ...{ id: eventIdOf(iss, givenId, sha256), givenId, iss },
    scope: 'subject',
    sub: randomUUID() as Subject,
    sid: null,
    reason: 'user',
    initiator: null,
    includeInitiator: false,
    clients: null,
    lane: 'interactive',
    occurredAt: now,
    acceptedAt: now,
  }
  const { basis, deliveries } = plan(event, { bindings, sessionIndex: 'partial' }, { kind: 'silent' }, sha256)
  return {
    event,
    digest: sha256(sameContent(event)),
    basis,
    traceparent: null,
    deliveries: deliveries.map((owed) => ({ ...owed, leased: true })),
  }
}
