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
  /** Where this worker runs, for people. */
  readonly name: string
  readonly newWorkerId: () => WorkerId
  /** After so long a silence the worker is declared dead and loses its leases, in milliseconds. */
  readonly leaseMs: number
  /** Time that only goes forward, in milliseconds. */
  readonly monotonicMs: () => number
  /** Set by every heartbeat. */
  readonly clock: LedgerClock
  /** Shared among the workers as every heartbeat finds them. */
  readonly limits: Pick<BindingLimits, 'shareAmong'>
  /** What this process holds under leases. Cleared when they are lost: what has not been started is for others to attempt. */
  readonly holdings: Pick<Holdings, 'ids' | 'clear'>
}

const BEATS_PER_LEASE = 5
/** As long as a session of the event log is by default, in milliseconds. */
const SILENT_MS_MIN = 6_000

/** This process as the ledger knows it: the holder of leases, as long as its heart beats. */
export class Worker {
  readonly #deps: WorkerDeps
  #id: WorkerId
  #lastBeatMs: number | null = null
  #leases = 0
  /** Leases of which the answer has not come. */
  readonly #asking = new Set<number>()
  readonly #book = createLeaseBook()

  constructor(deps: WorkerDeps) {
    this.#deps = deps
    this.#id = deps.newWorkerId()
  }

  id(): WorkerId {
    return this.#id
  }

  /**
   * Whether this worker may attempt deliveries: the last heartbeat that the ledger took is younger than a lease, and the clocks
   * agree.
   */
  alive(): boolean {
    return this.#heardWithin(this.#deps.leaseMs) && this.#deps.clock.agrees()
  }

  /**
   * Whether this worker should plan what comes in: as `alive`, but a short lease does not count. Partitions take a session of the event
   * log to change hands, so a worker gives them away only if it has been silent for longer.
   */
  able(): boolean {
    return this.#heardWithin(Math.max(this.#deps.leaseMs, SILENT_MS_MIN)) && this.#deps.clock.agrees()
  }

  /**
   * Runs a statement that leases deliveries to this worker. `work` calls `took` with the deliveries of the answer before it
   * resolves: a lease that is not asked for and not held is given back at the next heartbeat.
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

  /** Notes which deliveries a lease gave. The worker must hold them from this call on. */
  took({ workerId, number }: Lease, ids: readonly DeliveryId[]): void {
    if (workerId === this.#id) this.#book.took(number, ids)
  }

  /** Notes that the ledger has the end of these deliveries under a lease: settled, or given back. */
  ended({ workerId, number }: Lease, ids: readonly DeliveryId[]): void {
    if (workerId === this.#id) this.#book.ended(number, ids)
  }

  /** Makes the worker known, or says that it lives; under a new id if it was declared dead meanwhile. */
  async register(): Promise<void> {
    const { ledger, log, name, newWorkerId, monotonicMs, limits, holdings } = this.#deps
    // Counted from before the call: a heartbeat that was long on its way is as old as its start.
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

  /** Keeps the heart beating, and declares dead those whose heart does not, until `ended` aborts. */
  async beatUntil(ended: AbortSignal): Promise<void> {
    let upkeeping: Promise<void> | null = null
    while (!ended.aborted) {
      await this.#attempt(() => this.register())
      // Not waited for: however long it takes, the heart beats on.
      upkeeping ??= this.#attempt(() => this.#upkeep()).finally(() => {
        upkeeping = null
      })
      await sleep(this.#deps.leaseMs / BEATS_PER_LEASE, ended)
    }
    await upkeeping
  }

  /** Takes leave: what is still held is given back at once. @returns how much that was. */
  retire(): Promise<number> {
    return this.#deps.ledger.retireWorker(this.#id)
  }

  #heardWithin(ms: number): boolean {
    return this.#lastBeatMs !== null && this.#deps.monotonicMs() - this.#lastBeatMs < ms
  }

  async #beat(): Promise<Beat> {
    const { clock, holdings } = this.#deps
    const said = clock.agrees()
    const found = await this.#sendBeat(said)
    if (clock.agrees() === said) return found
    // It is the answer that says so. Others share the limits by it from their next heartbeat on, not from the one after.
    if (said) holdings.clear()
    return this.#sendBeat(!said)
  }

  async #sendBeat(working: boolean): Promise<Beat> {
    const { ledger, clock, monotonicMs } = this.#deps
    const sentMs = monotonicMs()
    const found = await ledger.beat(this.#id, { working })
    clock.set(found.now, { sentMs, receivedMs: monotonicMs() })
    return found
  }

  /**
   * Gives back what no worker attends to: the leases of the dead, and what is leased to this worker without its knowing, for an
   * answer may have been lost at any time.
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
