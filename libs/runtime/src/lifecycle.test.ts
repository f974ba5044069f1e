import { EventEmitter, once } from 'node:events'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { aborted, type ProcessOptions, runProcess, type Scope, type Service, sleep } from './lifecycle.ts'
import type { Log, LogLine } from './log.ts'

// Goal: a process ends in order when it is stopped, and nothing delays its end for ever.
// Method: stand-ins for signals and clock; a list of all that happened, in order.

let signals: EventEmitter
let happened: string[]
let nowMs: number
beforeEach(() => {
  signals = new EventEmitter()
  happened = []
  logged = []
  nowMs = 0
})
afterEach(() => {
  expect(signals.listenerCount('SIGTERM') + signals.listenerCount('SIGINT')).toBe(0)
})

const note = (what: string) => {
  happened.push(what)
}
const ignore = () => undefined
/** Every line, without the members that the machine decides. */
let logged: LogLine[]
const log: Log = {
  isLevelEnabled: () => true,
  debug: ignore,
  info: (line) => void logged.push(line),
  warn: ignore,
  error: ({ stage, err }: LogLine) => note(`failed ${stage}: ${err instanceof Error ? err.message : err}`),
}

function start(
  compose: (scope: Scope) => Promise<readonly Service[]>,
  options: Partial<Pick<ProcessOptions, 'stopDeadlineMs' | 'releaseDeadlineMs' | 'about'>> = {},
) {
  const ready = Promise.withResolvers<void>()
  const exit = vi.fn()
  const onReady = () => {
    note('ready')
    ready.resolve()
  }
  const settings = { stopDeadlineMs: 60_000, log, signals, onReady, monotonicMs: () => nowMs, exit }
  return { ended: runProcess(compose, { ...settings, ...options }), ready: ready.promise, exit }
}

const service = (name: string, run?: Service['run']): Service => ({
  name,
  async run(context) {
    note(`${name} runs`)
    context.ready()
    if (run === undefined) await aborted(context.stopping)
    else await run(context)
    note(`${name} ended`)
  },
})

test('a process runs until a signal, then ends its services, then releases resources in reverse order', async () => {
  const { ended, ready } = start(async (scope) => {
    scope.defer('database', () => note('database released'))
    scope.defer('log', async () => note('log released'))
    return [service('http'), service('intake')]
  })
  await ready
  signals.emit('SIGTERM', 'SIGTERM')
  expect(await ended).toBe(0)
  expect(happened).toEqual([
    'http runs',
    'intake runs',
    'ready',
    'http ended',
    'intake ended',
    'log released',
    'database released',
  ])
})

test('a process logs its start, when it is ready, why it stops, and its end', async () => {
  const { ended, ready } = start(async () => [service('http')], { about: { listens: '127.0.0.1:8480' } })
  await ready
  nowMs += 5_000
  signals.emit('SIGTERM', 'SIGTERM')
  await ended
  expect(logged).toEqual([
    {
      event: 'process.started',
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      ...{ node: process.version, pid: process.pid, listens: '127.0.0.1:8480' },
    },
    { event: 'process.ready', after_ms: 0 },
    { event: 'process.stopping', why: 'SIGTERM', uptime_ms: 5_000 },
    { event: 'process.stopped', status: 0, uptime_ms: 5_000, stop_ms: 0 },
  ])
  logged = []
  await start(async () => [service('http'), service('intake', async () => undefined)]).ended
  expect(logged).toMatchObject([
    { event: 'process.started' },
    { event: 'process.ready' },
    { event: 'process.stopping', why: 'intake' },
    { event: 'process.stopped', status: 1 },
  ])
})

test('a process is ready only when all its services are', async () => {
  const late = Promise.withResolvers<void>()
  const { ended, ready } = start(async () => [
    service('http'),
    {
      name: 'intake',
      async run(context) {
        await late.promise
        note('intake is warm')
        context.ready()
        await aborted(context.stopping)
      },
    },
  ])
  late.resolve()
  await ready
  expect(happened).toEqual(['http runs', 'intake is warm', 'ready'])
  signals.emit('SIGINT', 'SIGINT')
  expect(await ended).toBe(0)
})

describe('failures', () => {
  test('a service that fails ends the process', async () => {
    const { ended } = start(async (scope) => {
      scope.defer('database', () => note('database released'))
      return [service('http'), service('intake', () => Promise.reject(new Error('schema is newer')))]
    })
    expect(await ended).toBe(1)
    expect(happened.slice(-3)).toEqual(['failed intake: schema is newer', 'http ended', 'database released'])
  })

  test('a service that ends unasked or throws at once is a failure', async () => {
    expect(await start(async () => [service('intake', async () => undefined)]).ended).toBe(1)
    expect(happened.at(-1)).toBe('failed intake: intake ended without being asked to stop')
    const thrower: Service = {
      name: 'thrower',
      run() {
        throw new Error('at once')
      },
    }
    expect(await start(async () => [thrower]).ended).toBe(1)
    expect(happened.at(-1)).toBe('failed thrower: at once')
  })

  test('a failed composition releases the resources that it opened', async () => {
    const { ended } = start(async (scope) => {
      scope.defer('database', () => note('database released'))
      throw new Error('no event log')
    })
    expect(await ended).toBe(1)
    expect(happened).toEqual(['failed compose: no event log', 'database released'])
  })

  test('a failed release is logged, and the other releases still run', async () => {
    const { ended, ready } = start(async (scope) => {
      scope.defer('database', () => note('database released'))
      scope.defer('log', () => Promise.reject(new Error('gone')))
      return [service('http')]
    })
    await ready
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(1)
    expect(happened.slice(-2)).toEqual(['failed release log: gone', 'database released'])
  })

  test('a stop during composition is not a failure', async () => {
    const { ended } = start(async (scope) => {
      await aborted(scope.stopping)
      throw new Error('gave up connecting')
    })
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(0)
  })
})

describe('deadlines', () => {
  const draining = () =>
    service('delivery', async ({ stopping, abandoning }) => {
      await aborted(stopping)
      note('draining')
      await aborted(abandoning)
      note('abandoned')
    })

  test('a second signal abandons work in flight, and resources are still released', async () => {
    const { ended, ready } = start(async (scope) => {
      scope.defer('database', () => note('database released'))
      return [draining()]
    })
    await ready
    signals.emit('SIGINT', 'SIGINT')
    nowMs += 499
    signals.emit('SIGINT', 'SIGINT')
    await vi.waitFor(() => expect(happened).toContain('draining'))
    expect(happened).not.toContain('abandoned')
    nowMs += 1
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(0)
    expect(happened.slice(-4)).toEqual(['draining', 'abandoned', 'delivery ended', 'database released'])
  })

  test('the stop deadline abandons work in flight without an error', async () => {
    const { ended, ready } = start(async () => [draining()], { stopDeadlineMs: 5 })
    await ready
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(0)
    expect(happened).toContain('abandoned')
  })

  test('neither a service nor a release that hangs delays the end', async () => {
    const forever = () => Promise.withResolvers<never>().promise
    const options = { stopDeadlineMs: 5, releaseDeadlineMs: 10 }
    const { ended, ready, exit } = start(async (scope) => {
      scope.defer('database', () => note('database released'))
      scope.defer('log', forever)
      return [service('http'), service('intake', forever)]
    }, options)
    await ready
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(1)
    expect(happened.slice(-4)).toEqual([
      'http ended',
      'failed intake: did not end within 10 ms of being abandoned',
      'failed release log: took longer than 10 ms',
      'database released',
    ])
    await vi.waitFor(() => expect(exit).toHaveBeenCalledWith(1), { timeout: 5_000 })
  })

  test('a composition that ignores the stop does not delay the end', async () => {
    const { ended } = start(() => Promise.withResolvers<never>().promise, {
      stopDeadlineMs: 5,
      releaseDeadlineMs: 5,
    })
    signals.emit('SIGTERM', 'SIGTERM')
    expect(await ended).toBe(1)
    expect(happened).toEqual(['failed compose: did not end when asked to stop'])
  })
})

test('sleep ends after its time or at the signal', async () => {
  await sleep(1, new AbortController().signal)
  const controller = new AbortController()
  const long = sleep(3_600_000, controller.signal)
  controller.abort()
  await long
  await sleep(3_600_000, controller.signal)
})

// The real thing: a separate process and real signals.
describe('a process', () => {
  const node = process.execPath
  const script = `
    import { createServer } from 'node:net'
    import { runProcess, aborted, createLog } from '${new URL('./index.ts', import.meta.url)}'
    const hold = process.argv.at(-1)
    const log = createLog({ service: 'test', level: 'info' })
    process.exitCode = await runProcess(async (scope) => {
      const server = createServer().listen(0, '127.0.0.1')
      scope.defer('socket', () => hold === 'release' ? new Promise(() => {}) : server.close())
      return [{ name: 'main', async run({ stopping, abandoning, ready }) {
        ready()
        await aborted(stopping)
        console.log('stopping')
        if (hold === 'crash') setTimeout(() => { throw new Error('a bug') })
        for (let number = 0; number < 1_000; number++) log.info({ event: 'work.done', number })
        if (hold === 'crash') await aborted(abandoning)
        if (hold === 'service') await aborted(abandoning)
      } }]
    }, { stopDeadlineMs: 60_000, releaseDeadlineMs: 50, log, onReady: () => console.log('ready') })
    console.log('after')
  `
  async function spawned(hold: string) {
    const { spawn } = await import('node:child_process')
    const child = spawn(node, ['--input-type=module', '-e', script, '--', hold], { stdio: 'pipe' })
    let out = ''
    let errors = ''
    child.stderr.on('data', (chunk) => {
      errors += String(chunk)
    })
    child.stdout.on('data', (chunk) => {
      out += String(chunk)
      child.emit('printed')
    })
    const printed = async (word: string) => {
      while (!out.includes(word)) await once(child, 'printed')
    }
    const exited = once(child, 'exit').then(([status, signal]) => ({ status, signal, out, errors }))
    await printed('ready')
    return { child, printed, exited }
  }

  test.each(['SIGINT', 'SIGTERM'] as const)('ends with status 0 on %s', async (signal) => {
    const { child, exited } = await spawned('nothing')
    child.kill(signal)
    expect(await exited).toMatchObject({ status: 0, signal: null, out: 'ready\nstopping\nafter\n' })
  })

  test('abandons work in flight on the second Ctrl-C', async () => {
    const { child, printed, exited } = await spawned('service')
    child.kill('SIGINT')
    await printed('stopping')
    // A person's second keypress, not the repetition of the first.
    const again = setInterval(() => child.kill('SIGINT'), 100)
    const { status, out } = await exited
    clearInterval(again)
    expect([status, out]).toEqual([0, 'ready\nstopping\nafter\n'])
  })

  test('ends although a release hangs and keeps a socket open, and names that release', async () => {
    const { child, exited } = await spawned('release')
    child.kill('SIGTERM')
    const { status, out, errors } = await exited
    expect([status, out]).toEqual([1, 'ready\nstopping\nafter\n'])
    expect(errors).toContain('"stage":"release socket"')
  })

  test.each([
    ['a stop', 'nothing', 0, 'process.stopped'],
    ['a failure', 'release', 1, 'process.stopped'],
    ['an uncaught error', 'crash', 1, 'process.crashed'],
  ])('writes every line of its log after %s, and only JSON', async (_, hold, code, last) => {
    const { child, exited } = await spawned(hold)
    child.kill('SIGTERM')
    const { status, errors } = await exited
    expect(status).toBe(code)
    const lines = errors
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; number?: number })
    expect(lines.filter(({ event }) => event === 'work.done').map(({ number }) => number)).toEqual(
      Array.from({ length: 1_000 }, (_, number) => number),
    )
    expect(lines.at(-1)?.event).toBe(last)
  })
})
