import type { Log } from './log.ts'

/** What the process tells a running service. */
export interface RunContext {
  /** Aborts when the process begins to stop: take no new work, finish what is in flight. */
  readonly stopping: AbortSignal
  /** Aborts when the stop deadline passes, or at a second signal: let go of what is in flight. Its lease or offset makes it safe. */
  readonly abandoning: AbortSignal
  /** To be called once, when the service accepts work. The process is ready when all its services are. */
  ready(): void
}

/** A long-running part of a process. */
export interface Service {
  readonly name: string
  /** Works until `stopping` aborts, drains, resolves. Rejects, or resolves early, only if it cannot go on. */
  run(context: RunContext): Promise<void>
}

export interface Scope {
  readonly stopping: AbortSignal
  /** Registers the release of a resource. Releases run after every service has ended, last in, first out. */
  defer(name: string, release: () => unknown): void
}

export interface ProcessOptions {
  /** Time from the first signal to abandoning in-flight work, in milliseconds. */
  readonly stopDeadlineMs: number
  /** Longest that services may take to let go once abandoning, and then each release, in milliseconds. Default 15,000. */
  readonly releaseDeadlineMs?: number
  readonly log: Log
  onReady?(): void
  /** The process, or a stand-in for it in tests. */
  readonly signals?: Pick<NodeJS.EventEmitter, 'on' | 'off'>
  /** A clock that only goes forward, in milliseconds. */
  readonly monotonicMs?: () => number
  /** Ends the process when something that overran its deadline would keep it alive. */
  readonly exit?: (status: number) => void
}

/**
 * A terminal sends Ctrl-C to every process in the foreground and npm passes its own on, so one keypress arrives twice.
 * What comes within this time of the first signal, in milliseconds, is the same word said again.
 */
const SAME_KEYPRESS_MS = 500
/** Pause before what overran its deadline is cut off, in milliseconds: the caller may still have something to print. */
const LINGER_MS = 1_000

/**
 * Runs one process. `compose` builds its services; SIGINT, SIGTERM or the end of any service stops them all. A second
 * signal abandons what is in flight; resources are released all the same. Nothing can hold up the end for ever: what
 * overruns its deadline is named in the log and left behind.
 *
 * @returns the exit status: 0 after a stop that was asked for and clean, otherwise 1.
 */
export async function runProcess(
  compose: (scope: Scope) => Promise<readonly Service[]>,
  options: ProcessOptions,
): Promise<0 | 1> {
  const { stopDeadlineMs, releaseDeadlineMs = 15_000, log, onReady, signals = process } = options
  const { monotonicMs = () => performance.now(), exit = (code) => process.exit(code) } = options
  const end = createEnd({ stopDeadlineMs, releaseDeadlineMs, monotonicMs })
  const releases: (readonly [name: string, release: () => unknown])[] = []
  let overran = false
  let status: 0 | 1 = 0

  const fail = (stage: string, error: unknown) => {
    status = 1
    overran ||= error instanceof OverrunError
    log.error({ event: 'process.failed', stage, err: error })
  }
  const running = new Set<Service>()
  const run = async (service: Service, ready: () => void): Promise<void> => {
    running.add(service)
    try {
      await service.run({ stopping: end.stopping, abandoning: end.abandoning, ready })
      if (!end.stopping.aborted) throw new Error(`${service.name} ended without being asked to stop`)
    } catch (error) {
      fail(service.name, error)
    } finally {
      running.delete(service)
      end.stop()
    }
  }

  signals.on('SIGINT', end.onSignal)
  signals.on('SIGTERM', end.onSignal)
  // A closed terminal: without a listener the process would end at once and leave its database running.
  signals.on('SIGHUP', end.onSignal)
  try {
    const defer: Scope['defer'] = (name, release) => releases.push([name, release])
    const services = await Promise.race([compose({ stopping: end.stopping, defer }), end.overdue])
    if (services === 'overdue') throw new OverrunError('did not end when asked to stop')
    const waiting = new Set(services)
    const ready = (service: Service) => {
      if (waiting.delete(service) && waiting.size === 0 && !end.stopping.aborted) onReady?.()
    }
    await Promise.race([
      Promise.all(services.map((service) => run(service, () => ready(service)))),
      end.overdue,
    ])
    for (const { name } of running) fail(name, new OverrunError(`did not let go in ${releaseDeadlineMs} ms`))
  } catch (error) {
    // A stop during composition makes it fail; that is no fault.
    if (!end.stopping.aborted || error instanceof OverrunError) fail('compose', error)
    else log.info({ event: 'process.stopped-early', err: error })
  }
  end.stop()

  for (const [name, release] of releases.reverse()) {
    try {
      await within(release, releaseDeadlineMs)
    } catch (error) {
      fail(`release ${name}`, error)
    }
  }
  end.clear()
  signals.off('SIGINT', end.onSignal)
  signals.off('SIGTERM', end.onSignal)
  signals.off('SIGHUP', end.onSignal)
  // What hangs may hold a socket, and with it the process. Nothing happens here if the process ends by itself.
  if (overran) setTimeout(() => exit(status), LINGER_MS).unref()
  return status
}

/** The steps of a process's end: stopping, then abandoning, then overdue. Each begins the clock of the next. */
function createEnd({
  stopDeadlineMs,
  releaseDeadlineMs,
  monotonicMs,
}: Required<Pick<ProcessOptions, 'stopDeadlineMs' | 'releaseDeadlineMs' | 'monotonicMs'>>) {
  const stopping = new AbortController()
  const abandoning = new AbortController()
  const overdue = Promise.withResolvers<'overdue'>()
  const timers: NodeJS.Timeout[] = []
  let signalledAtMs: number | null = null

  const abandon = () => {
    if (abandoning.signal.aborted) return
    timers.push(setTimeout(() => overdue.resolve('overdue'), releaseDeadlineMs))
    abandoning.abort()
  }
  const stop = () => {
    if (stopping.signal.aborted) return
    timers.push(setTimeout(abandon, stopDeadlineMs))
    stopping.abort()
  }
  return {
    stopping: stopping.signal,
    abandoning: abandoning.signal,
    overdue: overdue.promise,
    stop,
    onSignal() {
      const nowMs = monotonicMs()
      signalledAtMs ??= nowMs
      if (nowMs - signalledAtMs >= SAME_KEYPRESS_MS) abandon()
      stop()
    },
    clear() {
      for (const timer of timers) clearTimeout(timer)
    },
  }
}

/** Something took longer than it may, and is still at it. */
class OverrunError extends Error {}

async function within(release: () => unknown, deadlineMs: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new OverrunError(`took longer than ${deadlineMs} ms`)), deadlineMs)
  try {
    await Promise.race([release(), promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  const timer = setTimeout(end, ms)
  signal.addEventListener('abort', end, { once: true })
  await promise
  clearTimeout(timer)
  signal.removeEventListener('abort', end)
}

/** Resolves when `signal` aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => resolve(), { once: true })
  await promise
}
