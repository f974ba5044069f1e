import type { Log } from './log.ts'
import { VERSION } from './version.ts'

/** The signals between the process and a running service. */
export interface RunContext {
  /** Aborts when the process begins to stop. The service accepts no new work and finishes its work in flight. */
  readonly stopping: AbortSignal
  /** Aborts at the stop deadline or at a second signal. The service drops its work in flight, kept safe by a lease or offset. */
  readonly abandoning: AbortSignal
  /** The service calls this once, when it accepts work. The process is ready when all its services are. */
  ready(): void
}

/** A long-running part of a process. */
export interface Service {
  readonly name: string
  /** Works until `stopping` aborts, then drains and resolves. Rejects, or resolves earlier, only if it cannot continue. */
  run(context: RunContext): Promise<void>
}

export interface Scope {
  readonly stopping: AbortSignal
  /** Registers the release of a resource. Releases run in reverse order, after every service has ended. */
  defer(name: string, release: () => unknown): void
}

export interface ProcessOptions {
  /** Time from the first signal until work in flight is abandoned, in milliseconds. */
  readonly stopDeadlineMs: number
  /** Longest time for services to end once abandoned, and then for each release, in milliseconds. Default 15,000. */
  readonly releaseDeadlineMs?: number
  readonly log: Log
  /** Members of the line `process.started`, such as the address that the process listens on. */
  readonly about?: Readonly<Record<string, unknown>>
  onReady?(): void
  /** Explains an error to a person, with the way to correct it if there is one. The lines of failures include it as `msg`. */
  readonly explain?: (error: unknown) => string
  /** The process; a stand-in in tests. */
  readonly signals?: Pick<NodeJS.EventEmitter, 'on' | 'off'>
  /** A clock that only moves forward, in milliseconds. */
  readonly monotonicMs?: () => number
  /** Ends the process if a service or release that overran its deadline keeps it alive. */
  readonly exit?: (status: number) => void
}

/**
 * A terminal sends Ctrl-C to every process in the foreground, and npm passes its own signal on, so one keypress arrives twice.
 * A signal within this time of the first one, in milliseconds, belongs to the same keypress.
 */
const SAME_KEYPRESS_MS = 500
/** Pause before the process is ended in spite of an overrun, in milliseconds: the caller may still have output to print. */
const LINGER_MS = 1_000

/**
 * Runs one process. `compose` builds its services. SIGINT, SIGTERM or the end of any service stops all of them. A second signal
 * abandons work in flight; resources are still released. Nothing delays the end for ever: a service or release that overruns
 * its deadline is named in the log and left behind.
 *
 * @returns the exit status: 0 after a requested stop without errors, otherwise 1.
 */
export async function runProcess(
  compose: (scope: Scope) => Promise<readonly Service[]>,
  options: ProcessOptions,
): Promise<0 | 1> {
  const { stopDeadlineMs, releaseDeadlineMs = 15_000, log, onReady, explain, signals = process } = options
  const { monotonicMs = () => performance.now(), exit = (code) => process.exit(code) } = options
  const startedMs = monotonicMs()
  const elapsedMs = () => Math.round(monotonicMs() - startedMs)
  const onStopping = (why: string) => log.info({ event: 'process.stopping', why, uptime_ms: elapsedMs() })
  const end = createEnd({ stopDeadlineMs, releaseDeadlineMs, monotonicMs, onStopping })
  const releases: (readonly [name: string, release: () => unknown])[] = []
  let overran = false
  let status: 0 | 1 = 0

  const fail = (stage: string, error: unknown) => {
    status = 1
    overran ||= error instanceof OverrunError
    log.error({ event: 'process.failed', stage, ...(explain && { msg: explain(error) }), err: error })
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
      end.stop(service.name)
    }
  }
  const onCrash = (error: unknown) => {
    // The state of the process is unknown, so nothing is drained. Leases and offsets keep what was under way.
    log.error({ event: 'process.crashed', err: error })
    exit(1)
  }

  log.info({
    event: 'process.started',
    version: VERSION,
    node: process.version,
    pid: process.pid,
    ...options.about,
  })
  const unlisten = listen(signals, { onSignal: end.onSignal, onCrash })
  try {
    const defer: Scope['defer'] = (name, release) => releases.push([name, release])
    const services = await Promise.race([compose({ stopping: end.stopping, defer }), end.overdue])
    if (services === 'overdue') throw new OverrunError('did not end when asked to stop')
    const waiting = new Set(services)
    const ready = (service: Service) => {
      if (!waiting.delete(service) || waiting.size > 0 || end.stopping.aborted) return
      log.info({ event: 'process.ready', after_ms: elapsedMs() })
      onReady?.()
    }
    await Promise.race([
      Promise.all(services.map((service) => run(service, () => ready(service)))),
      end.overdue,
    ])
    for (const { name } of running)
      fail(name, new OverrunError(`did not end within ${releaseDeadlineMs} ms of being abandoned`))
  } catch (error) {
    // A stop during composition makes it fail, which is not an error.
    if (!end.stopping.aborted || error instanceof OverrunError) fail('compose', error)
    else log.info({ event: 'process.stopped-early', err: error })
  }
  end.stop('compose')

  for (const [name, release] of releases.reverse()) {
    try {
      await within(release, releaseDeadlineMs)
    } catch (error) {
      fail(`release ${name}`, error)
    }
  }
  end.clear()
  log.info({ event: 'process.stopped', status, uptime_ms: elapsedMs(), stop_ms: end.stoppedForMs() })
  unlisten()
  // A hanging service or release may hold a socket and keep the process alive. The timer itself does not keep it alive.
  if (overran) setTimeout(() => exit(status), LINGER_MS).unref()
  return status
}

/** Listens to the signals that stop a process, and to its uncaught errors. @returns a function that ends this. */
function listen(
  signals: Pick<NodeJS.EventEmitter, 'on' | 'off'>,
  {
    onSignal,
    onCrash,
  }: { readonly onSignal: (signal: string) => void; readonly onCrash: (error: unknown) => void },
): () => void {
  const listeners = [
    ['SIGINT', onSignal],
    ['SIGTERM', onSignal],
    // The terminal was closed. Without a listener the process would end at once and leave its database running.
    ['SIGHUP', onSignal],
    // Without a listener Node.js prints the error as plain text, which a reader of JSON lines cannot take.
    ['uncaughtException', onCrash],
  ] as const
  for (const [name, listener] of listeners) signals.on(name, listener)
  return () => {
    for (const [name, listener] of listeners) signals.off(name, listener)
  }
}

/** The steps of a process's end: stopping, then abandoning, then overdue. Each step starts the timer of the next. */
function createEnd({
  stopDeadlineMs,
  releaseDeadlineMs,
  monotonicMs,
  onStopping,
}: Required<Pick<ProcessOptions, 'stopDeadlineMs' | 'releaseDeadlineMs' | 'monotonicMs'>> & {
  /** @param why the signal, or the part of the process that ended. */
  readonly onStopping: (why: string) => void
}) {
  const stopping = new AbortController()
  const abandoning = new AbortController()
  const overdue = Promise.withResolvers<'overdue'>()
  const timers: NodeJS.Timeout[] = []
  let signalledAtMs: number | null = null
  let stoppingAtMs: number | null = null

  const abandon = () => {
    if (abandoning.signal.aborted) return
    timers.push(setTimeout(() => overdue.resolve('overdue'), releaseDeadlineMs))
    abandoning.abort()
  }
  const stop = (why: string) => {
    if (stopping.signal.aborted) return
    stoppingAtMs = monotonicMs()
    onStopping(why)
    timers.push(setTimeout(abandon, stopDeadlineMs))
    stopping.abort()
  }
  return {
    stopping: stopping.signal,
    abandoning: abandoning.signal,
    overdue: overdue.promise,
    stop,
    /** The time since the process began to stop, in milliseconds. */
    stoppedForMs: () => Math.round(monotonicMs() - (stoppingAtMs ?? monotonicMs())),
    onSignal(signal: string) {
      const nowMs = monotonicMs()
      signalledAtMs ??= nowMs
      if (nowMs - signalledAtMs >= SAME_KEYPRESS_MS) abandon()
      stop(signal)
    },
    clear() {
      for (const timer of timers) clearTimeout(timer)
    },
  }
}

/** A service, a release or the composition exceeded its deadline and still runs. */
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

/** Resolves after `ms`, or as soon as `signal` aborts. */
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
