import { EventLogUnavailableError } from '@curfew/domain'

/** One append that waits until all its records are confirmed. */
export class Append {
  /** Resolves once all records are confirmed. */
  readonly confirmed: Promise<void>
  readonly bytes: number
  settled = false
  #unconfirmed: number
  readonly #timer: NodeJS.Timeout
  readonly #settle: (error: EventLogUnavailableError | null) => void

  /**
   * @param onTimeout must reject the append.
   * @param onSettled called once.
   */
  constructor(
    { records, bytes, timeoutMs }: { records: number; bytes: number; timeoutMs: number },
    onTimeout: (append: Append) => void,
    onSettled: (append: Append) => void,
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.confirmed = promise
    this.bytes = bytes
    this.#unconfirmed = records
    this.#timer = setTimeout(onTimeout, timeoutMs, this)
    this.#settle = (error) => {
      onSettled(this)
      if (error === null) resolve()
      else reject(error)
    }
  }

  /** Counts one record as confirmed. */
  confirm(): void {
    this.#unconfirmed--
    if (this.#unconfirmed === 0) this.#end(null)
  }

  reject(error: EventLogUnavailableError): void {
    this.#end(error)
  }

  #end(error: EventLogUnavailableError | null): void {
    if (this.settled) return
    this.settled = true
    clearTimeout(this.#timer)
    this.#settle(error)
  }
}

export function unavailable(why: string, cause: unknown): EventLogUnavailableError {
  return new EventLogUnavailableError(why, cause === null ? undefined : { cause })
}
