import type { ChildProcess } from 'node:child_process'
import { isOver, untilReady } from './process.ts'
import { addressOf, type Place, replicationFactor } from './settings.ts'

/** A cluster that `KAFKA_BROKERS` names. It is used as it is, and none of its brokers is ended. */
export interface NamedKafka extends Readonly<Partial<Record<keyof Power, undefined>>> {
  readonly how: 'environment'
  /** `host:port` of some of its brokers. */
  readonly brokers: readonly string[]
  /** Leaves it alone. */
  stop(): Promise<void>
}

/** A cluster of our own. `kill` and its like are done to all of its brokers at once. */
export interface OwnKafka extends Power {
  readonly how: 'docker' | 'maven'
  /** `host:port` of every broker. */
  readonly brokers: readonly string[]
  /** What `KAFKA_REPLICATION_FACTOR` may be at most, up to 3. */
  readonly replicationFactor: number
  readonly nodes: readonly KafkaNode[]
  /** Ends the brokers and deletes their data. Idempotent. */
  stop(): Promise<void>
}

/** A cluster that tests and people at their desks may use. */
export type RunningKafka = NamedKafka | OwnKafka

/** One broker of a cluster, which is one of its controllers too. */
export interface KafkaNode extends Power {
  /** Its `node.id`, from 1. */
  readonly id: number
  /** `host:port` for clients. */
  readonly address: string
  /** Ends it gently (SIGTERM): it hands its partitions to the others first. Its data stay. */
  stop(): Promise<void>
}

/** What can befall a broker. */
export interface Power {
  /** Ends it at once, as a power failure would (SIGKILL). Its data stay. */
  kill(): Promise<void>
  /** Starts it again on the same port with the same data, after a SIGKILL if it runs. Resolves when it serves. */
  restart(): Promise<void>
  /** Makes it hang: connections stay, answers do not come. */
  suspend(): Promise<void>
  /** Ends a `suspend`. */
  resume(): Promise<void>
}

type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'

/** One node, as a way of running it runs it. */
export interface NodeProcess {
  /** The child's output is the node's log, and its end the node's end. */
  spawn(): ChildProcess
  /** Called while what was spawned lives. */
  signal(name: Signal): Promise<void>
}

/** A way of running nodes. */
export interface Way {
  readonly how: OwnKafka['how']
  /** Not started yet; the first is node 1. */
  readonly nodes: readonly NodeProcess[]
  /** Deletes what ended nodes leave behind. */
  remove(): Promise<void>
  /** Ends the nodes as far as an exiting process can. */
  endAtExit(): void
}

const START_TIMEOUT_MS = 90_000
const STOP_TIMEOUT_MS = 60_000

/**
 * Starts all nodes, side by side.
 *
 * @throws {Error} with the end of a node's log when that does not start; then nothing is left running.
 */
export async function startNodes(way: Way, { plan, log }: Place): Promise<OwnKafka> {
  const brokers = plan.nodes.map(addressOf)
  const nodes = way.nodes.map((process, index) => createNode(index + 1, brokers[index] ?? '', process))
  const all = (act: (node: KafkaNode) => Promise<void>) => async () => {
    await Promise.all(nodes.map(act))
  }
  const kafka: Power = {
    kill: all((node) => node.kill()),
    restart: all((node) => node.restart()),
    suspend: all((node) => node.suspend()),
    resume: all((node) => node.resume()),
  }
  // A broker must not outlive a test run that ends in a crash. SIGKILL of ours is beyond this.
  process.once('exit', way.endAtExit)
  const stop = async () => {
    // Its data go with it, so there is nothing that a gentle end would keep.
    await kafka.kill()
    process.removeListener('exit', way.endAtExit)
    await way.remove()
  }
  log(`starting Kafka on ${brokers.join(', ')}`)
  try {
    await kafka.restart()
  } catch (error) {
    await stop()
    throw error
  }
  let stopped: Promise<void> | null = null
  return {
    how: way.how,
    brokers,
    replicationFactor: replicationFactor(brokers.length),
    nodes,
    ...kafka,
    stop() {
      stopped ??= stop()
      return stopped
    },
  }
}

function createNode(id: number, address: string, { spawn, signal }: NodeProcess): KafkaNode {
  let child: ChildProcess | null = null

  async function end(name: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (child === null || isOver(child)) return
    const { promise: gone, resolve } = Promise.withResolvers<void>()
    child.once('exit', () => resolve())
    await signal(name)
    await gone
  }
  return {
    id,
    address,
    async stop() {
      const { promise: late, reject } = Promise.withResolvers<never>()
      const timer = setTimeout(
        () => reject(new Error(`Kafka's node ${id} did not stop within ${STOP_TIMEOUT_MS} ms`)),
        STOP_TIMEOUT_MS,
      )
      try {
        await Promise.race([end('SIGTERM'), late])
      } finally {
        clearTimeout(timer)
      }
    },
    kill: () => end('SIGKILL'),
    async restart() {
      await end('SIGKILL')
      child = spawn()
      await untilReady(child, START_TIMEOUT_MS)
    },
    suspend: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
  }
}
