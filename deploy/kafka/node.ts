import type { ChildProcess } from 'node:child_process'
import { hasEnded, untilReady } from '../server/process.ts'
import { addressOf, type Place, replicationFactor, SERVING } from './settings.ts'

/** A cluster that `KAFKA_BROKERS` names. We use it as it is, and never end one of its brokers. */
export interface NamedKafka extends Readonly<Partial<Record<keyof Power, undefined>>> {
  readonly how: 'environment'
  /** `host:port` of some of its brokers. */
  readonly brokers: readonly string[]
  /** Leaves the cluster running. */
  stop(): Promise<void>
}

/** A cluster that we started. `kill`, `restart`, `suspend` and `resume` act on all of its brokers at once. */
export interface OwnKafka extends Power {
  readonly how: 'docker' | 'maven'
  /** `host:port` of every broker. */
  readonly brokers: readonly string[]
  /** The highest valid `KAFKA_REPLICATION_FACTOR`: the number of brokers, at most 3. */
  readonly replicationFactor: number
  readonly nodes: readonly KafkaNode[]
  /** Ends the brokers and deletes their data. Idempotent. */
  stop(): Promise<void>
}

/** A cluster for tests and development. */
export type RunningKafka = NamedKafka | OwnKafka

/** One node of a cluster: broker and controller in one. */
export interface KafkaNode extends Power {
  /** Its `node.id`, from 1. */
  readonly id: number
  /** `host:port` for clients. */
  readonly address: string
  /** Stops the broker gracefully (SIGTERM): it hands its partitions to the others first. Its data stay. */
  stop(): Promise<void>
}

/** Kills, restarts and suspends a broker. */
export interface Power {
  /** Ends the broker at once (SIGKILL), like a power failure. Its data stay. */
  kill(): Promise<void>
  /** Starts the broker again on the same port with the same data; kills it first if it runs. Resolves when it serves. */
  restart(): Promise<void>
  /** Makes the broker hang: its connections stay open, and its answers do not come. */
  suspend(): Promise<void>
  /** Ends a `suspend`. */
  resume(): Promise<void>
}

type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'

/** The process of one node, under Docker or Java. */
export interface NodeProcess {
  /** Starts the process. Its output is the node's log, and its exit ends the node. */
  spawn(): ChildProcess
  /** Sends a signal to the process. Called only while the process lives. */
  signal(name: Signal): Promise<void>
}

/** A way to run nodes: Docker, or Java. */
export interface Way {
  readonly how: OwnKafka['how']
  /** The nodes, not yet started. The first is node 1. */
  readonly nodes: readonly NodeProcess[]
  /** Deletes the files and containers that the ended nodes leave behind. */
  remove(): Promise<void>
  /** Ends the nodes while this process exits. It cannot wait for them. */
  endAtExit(): void
}

const STOP_TIMEOUT_MS = 60_000

/**
 * Starts all nodes at the same time.
 *
 * @throws {Error} when a node does not start, with the end of its log. No node keeps running then.
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
  // Brokers must not outlive a test run that crashes. This handler does not run when SIGKILL ends our process.
  process.once('exit', way.endAtExit)
  const stop = async () => {
    // The data are deleted, so a graceful stop would save nothing.
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
    if (child === null || hasEnded(child)) return
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
        () => reject(new Error(`Kafka node ${id} did not stop within ${STOP_TIMEOUT_MS} ms`)),
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
      await untilReady(child, SERVING)
    },
    suspend: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
  }
}
