import { spawn } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../server/process.ts'
import type { NodeProcess, Way } from './node.ts'
import { formatArguments, kafkaVersion, type Place, serverProperties } from './settings.ts'

const PULL_TIMEOUT_MS = 600_000
const COMMAND_TIMEOUT_MS = 30_000
const HEAP = '-Xms64m -Xmx320m'
/** Paths inside the containers. */
const PROPERTIES = '/tmp/server.properties'
const DATA = '/tmp/kafka-data'
/** Formats the data at the first start only. */
const START = `/opt/kafka/bin/kafka-storage.sh format "$@" && exec /opt/kafka/bin/kafka-server-start.sh ${PROPERTIES}`

/** Runs nodes in containers of the official image, with the same settings as under Java. */
export async function inDocker({ folder, plan, log }: Place): Promise<Way> {
  const image = `apache/kafka:${await kafkaVersion()}`
  const have = await run('docker', ['image', 'inspect', image], { timeoutMs: COMMAND_TIMEOUT_MS })
  if (have.code !== 0) {
    log(`pulling ${image} (once)`)
    await docker(['pull', image], PULL_TIMEOUT_MS, log)
  }
  // An extra container holds the network that all nodes share, so 127.0.0.1 is the same host for each of them. Its published
  // ports make the nodes reachable from this machine at the same addresses.
  const network = `curfew-kafka-${plan.nodes[0]?.clients}`
  const containers = [network, ...plan.nodes.map((_, index) => `${network}-${index + 1}`)]
  const remove = ['rm', '--force', '--volumes', ...containers]

  async function prepare(id: number): Promise<NodeProcess> {
    const name = `${network}-${id}`
    const properties = join(folder, `node-${id}.properties`)
    await writeFile(properties, serverProperties(plan, { id, data: DATA, listenAt: '0.0.0.0' }))
    await docker([
      ...['create', '--name', name, '--network', `container:${network}`, '--env', `KAFKA_HEAP_OPTS=${HEAP}`],
      ...['--entrypoint', 'sh', image, '-c', START, 'sh'],
      ...['--ignore-formatted', '--config', PROPERTIES, ...formatArguments(plan.security)],
    ])
    await docker(['cp', properties, `${name}:${PROPERTIES}`])
    return {
      // Attached, so that we can read the log. The container itself runs outside this child process.
      spawn: () => spawn('docker', ['start', '--attach', name], { stdio: ['ignore', 'pipe', 'pipe'] }),
      signal: (signal) => docker(['kill', '--signal', signal, name]),
    }
  }

  const nodes: NodeProcess[] = []
  try {
    const ports = plan.nodes.flatMap(({ clients }) => ['--publish', `127.0.0.1:${clients}:${clients}`])
    await docker(['run', '--detach', '--name', network, ...ports, '--entrypoint', 'sleep', image, 'infinity'])
    for (let id = 1; id <= plan.nodes.length; id++) nodes.push(await prepare(id))
  } catch (error) {
    await run('docker', remove, { timeoutMs: COMMAND_TIMEOUT_MS })
    throw error
  }
  return {
    how: 'docker',
    nodes,
    async remove() {
      await docker(remove)
      await rm(folder, { recursive: true, force: true })
    },
    endAtExit() {
      spawn('docker', remove, { stdio: 'ignore', detached: true }).unref()
    },
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
