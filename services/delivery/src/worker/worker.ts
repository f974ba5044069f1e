import type { DeliveryId, WorkerId } from '@curfew/domain'
import type { Beat, DeliveryLedger, Lease } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { BindingLimits } from '../dispatch/binding-limits.ts'
import type { Holdings } from '../dispatch/holdings.ts'
import { createLeaseBook } from './lease-book.ts'
import type { LedgerClock } from './ledger-clock.ts'

export interface WorkerDeps {
  readonly ledger: Pick<
    DeliveryLedger,
    'registerWorker' | 'beat' | 'reclaimLeases' | 'releaseUnheld' | 'retireWorker'
  >
  readonly log: Log
  /** The host and process of this worker, for people to read. */
  readonly name: string
  readonly newWorkerId: () => WorkerId
  /** A worker that sends no heartbeat for this long is declared dead and loses its leases, in milliseconds. */
  readonly leaseMs: number
  /** Monotonic time in milliseconds. */
  readonly monotonicMs: () => number
  /** Every heartbeat sets it. */
  readonly clock: LedgerClock
  /** Every heartbeat shares the limits among the workers that it found. */
  readonly limits: Pick<BindingLimits, 'shareAmong'>
  /**
   * The deliveries that this process has leased. Cleared when the leases are lost: other workers attempt the deliveries that have
   * not started.
   */
  readonly holdings: Pick<Holdings, 'ids' | 'clear'>
}

const BEATS_PER_LEASE = 5
/** The longest pause between two heartbeats, in milliseconds. Operators see a worker as dead after 30 s without one. */
const BEAT_MS_MAX = 5_000
/** The default session timeout of a consumer of the event log, in milliseconds. */
const SILENT_MS_MIN = 6_000

/** This process as a worker in the ledger. It owns leases while its heartbeats arrive. */
export class Worker {
  readonly #deps: WorkerDeps
  #id: WorkerId
  #lastBeatMs: number | null = null
  #leases = 0
  /** Numbers of the leases whose answer has not arrived. */
  readonly #asking = new Set<number>()
  readonly #book = createLeaseBook()

  constructor(deps: WorkerDeps) {
    this.#deps = deps
    this.#id = deps.newWorkerId()
  }

  id(): WorkerId {
    return this.#id
  }

  /** Whether this worker may attempt deliveries: its last accepted heartbeat is younger than a lease, and the clocks agree. */
  alive(): boolean {
    return this.#heardWithin(this.#deps.leaseMs) && this.#deps.clock.agrees()
  }

  /**
   * Whether this worker should plan incoming events. Like `alive`, but a short lease is extended to the session timeout of the
   * event log. Partitions change workers no faster than that, so a shorter silence is no reason to give them up.
   */
  able(): boolean {
    return this.#heardWithin(Math.max(this.#deps.leaseMs, SILENT_MS_MIN)) && this.#deps.clock.agrees()
  }

  /**
   * Runs a statement that leases deliveries to this worker. `work` calls `took` with the deliveries of the answer before it
   * resolves. The next heartbeat gives back a lease that is neither outstanding nor held.
   */
  async leasing<Result>(work: (lease: Lease) => Promise<Result>): Promise<Result> {
    this.#leases += 1
    const lease = { workerId: this.#id, number: this.#leases }
    this.#asking.add(lease.number)
    try {
      return await work(lease)
    } finally {
      this.#asking.delete(lease.number)
    }
  }

  /** Notes the deliveries that a lease contains. The worker must hold them from this call on. */
  took({ workerId, number }: Lease, ids: readonly DeliveryId[]): void {
    if (workerId === this.#id) this.#book.took(number, ids)
  }

  /** Notes that the ledger has stored the end of these deliveries under a lease: they are settled or given back. */
  ended({ workerId, number }: Lease, ids: readonly DeliveryId[]): void {
    if (workerId === this.#id) this.#book.ended(number, ids)
  }

  /** Registers the worker, or sends a heartbeat. A worker that was declared dead registers under a new id. */
  async register(): Promise<void> {
    const { ledger, log, name, newWorkerId, monotonicMs, limits, holdings } = this.#deps
    // The age counts from before the call: a slow heartbeat is as old as its start.
    const startedMs = monotonicMs()
    const found = this.#lastBeatMs === null ? null : await this.#beat()
    if (found?.alive === true) {
      limits.shareAmong(found)
    } else {
      if (this.#lastBeatMs !== null) {
        log.warn({ event: 'worker.lost', worker_id: this.#id })
        this.#id = newWorkerId()
        this.#book.clear()
        holdings.clear()
      }
      await ledger.registerWorker({ id: this.#id, name })
      limits.shareAmong(await this.#beat())
    }
    this.#lastBeatMs = startedMs
  }

  /** Sends heartbeats and reclaims the leases of dead workers until `ended` aborts. */
  async beatUntil(ended: AbortSignal): Promise<void> {
    let upkeeping: Promise<void> | null = null
    while (!ended.aborted) {
      await this.#attempt(() => this.register())
      // Not awaited: heartbeats continue however long the upkeep takes.
      upkeeping ??= this.#attempt(() => this.#upkeep()).finally(() => {
        upkeeping = null
      })
      await sleep(Math.min(this.#deps.leaseMs / BEATS_PER_LEASE, BEAT_MS_MAX), ended)
    }
    await upkeeping
  }

  /**
   * Retires the worker and gives back its leases at once.
   *
   * @param how `abandoned`: attempts are still running.
   * @returns the number of deliveries given back.
   */
  retire(how: { readonly abandoned: boolean }): Promise<number> {
    return this.#deps.ledger.retireWorker(this.#id, how)
  }

  #heardWithin(ms: number): boolean {
    return this.#lastBeatMs !== null && this.#deps.monotonicMs() - this.#lastBeatMs < ms
  }

  async #beat(): Promise<Beat> {
    const { clock, holdings } = this.#deps
    const agreed = clock.agrees()
    const found = await this.#sendBeat(agreed)
    if (clock.agrees() === agreed) return found
    // The answer changed the agreement of the clocks. A second heartbeat reports it, so other workers share the limits without
    // this one at their next heartbeat.
    if (agreed) holdings.clear()
    return this.#sendBeat(!agreed)
  }

  async #sendBeat(working: boolean): Promise<Beat> {
    const { ledger, clock, monotonicMs } = this.#deps
    const sentMs = monotonicMs()
    const found = await ledger.beat(this.#id, { working })
    clock.set(found.now, { sentMs, receivedMs: monotonicMs() })
    return found
  }

  /**
   * Gives back deliveries that no worker attends to: the leases of dead workers, and leases of this worker that it does not know.
   * It does not know a lease whose answer was lost.
   */
  async #upkeep(): Promise<void> {
    const { ledger, holdings, leaseMs, log } = this.#deps
    const reclaimed = await ledger.reclaimLeases({ leaseMs })
    if (reclaimed > 0) log.warn({ event: 'leases.reclaimed', deliveries: reclaimed })
    const { ended, held: known, others } = this.#book.look(holdings.ids())
    const released = await ledger.releaseUnheld({
      workerId: this.#id,
      asking: [...this.#asking, ...known],
      held: others,
      ended,
      upTo: this.#leases,
    })
    this.#book.deleted(ended)
    if (released > 0) log.warn({ event: 'leases.unheld', deliveries: released })
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#deps.log.warn({ event: 'worker.beat-failed', err: error })
    }
  }
}
