import { type ChildProcess, spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { kafkaVersion, type Place, type RunningKafka, serverProperties } from './node.ts'
import { end, run, untilReady } from './process.ts'

const PULL_TIMEOUT_MS = 600_000
const START_TIMEOUT_MS = 60_000
const COMMAND_TIMEOUT_MS = 30_000

/** Runs the official image. It formats its own storage and takes settings as `KAFKA_…` variables. */
export async function openInDocker({ folder, port, controllerPort, log }: Place): Promise<RunningKafka> {
  const image = `apache/kafka:${await kafkaVersion()}`
  const name = `curfew-kafka-${port}`
  const have = await run('docker', ['image', 'inspect', image], { timeoutMs: COMMAND_TIMEOUT_MS })
  if (have.code !== 0) {
    log(`pulling ${image} (once)`)
    await docker(['pull', image], PULL_TIMEOUT_MS, log)
  }
  const settings = serverProperties({
    listeners: `PLAINTEXT://0.0.0.0:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
  })
  const variables = Object.entries(settings).flatMap(([key, value]) => [
    '--env',
    `KAFKA_${key.toUpperCase().replaceAll('.', '_')}=${value}`,
  ])
  log(`starting ${image} on 127.0.0.1:${port}`)
  await docker(['create', '--name', name, '--publish', `127.0.0.1:${port}:${port}`, ...variables, image])

  const removeSync = () => {
    spawn('docker', ['rm', '--force', '--volumes', name], { stdio: 'ignore', detached: true }).unref()
  }
  const start = async () => {
    // Attached, so that the log is ours to read; the container is another process than this one.
    const attached: ChildProcess = spawn('docker', ['start', '--attach', name], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    try {
      await untilReady(attached, START_TIMEOUT_MS)
    } catch (error) {
      await end(attached, 'SIGKILL')
      throw error
    }
  }
  const stop = async () => {
    process.removeListener('exit', removeSync)
    await docker(['rm', '--force', '--volumes', name])
    await rm(folder, { recursive: true, force: true })
  }
  process.once('exit', removeSync)
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  let stopped: Promise<void> | null = null
  return {
    how: 'docker',
    brokers: [`127.0.0.1:${port}`],
    stop: () => {
      stopped ??= stop()
      return stopped
    },
    kill: () => docker(['kill', '--signal', 'SIGKILL', name]),
    restart: start,
    suspend: () => docker(['pause', name]),
    resume: () => docker(['unpause', name]),
  }
}

async function docker(
  args: readonly string[],
  timeoutMs = COMMAND_TIMEOUT_MS,
  onLine?: (line: string) => void,
): Promise<void> {
  const done = await run('docker', args, onLine === undefined ? { timeoutMs } : { timeoutMs, onLine })
  if (done.code !== 0) throw new Error(`\`docker ${args[0]}\` failed: ${done.output || done.summary}`)
}
