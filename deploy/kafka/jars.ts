import { spawn } from 'node:child_process'
import { cp, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cached, exists } from './cache.ts'
import { freePort } from './ports.ts'
import { end, run, untilReady } from './process.ts'
import {
  type ClusterPlan,
  formatArguments,
  kafkaVersion,
  type Place,
  POM,
  serverProperties,
} from './settings.ts'

/** Kafka, ready to run under Java. */
export interface KafkaJars {
  /** The Java options. The class to run follows them. */
  readonly java: readonly string[]
  /** A formatted, empty data folder of node 1, to be copied. */
  readonly formatted: string
}

/** For a small process and a quick start: only the first compiler tier, one collector thread, no JMX. */
const JVM_OPTIONS: readonly string[] = [
  '-Xms64m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Xshare:auto',
  '-Djava.awt.headless=true',
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
  '-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info',
]

const DOWNLOAD_TIMEOUT_MS = 600_000
const FORMAT_TIMEOUT_MS = 60_000
const START_TIMEOUT_MS = 90_000

/** Returns the jars of this version, a formatted empty data folder and a class data archive. Makes those that are missing. */
export async function fetchKafka({
  environment,
  log,
}: Pick<Place, 'environment' | 'log'>): Promise<KafkaJars> {
  const version = await kafkaVersion()
  const cache = await cached(
    `kafka-${version}`,
    async (making) => {
      await fetchJars(join(making, 'jars'), version, log)
      log('formatting an empty data folder')
      await formatData([...JVM_OPTIONS, ...classPath(making)], join(making, 'formatted'), ANY_PLAN)
    },
    environment,
  )
  const classes = join(cache, 'classes.jsa')
  if (!(await exists(classes))) {
    log('archiving the classes that a broker loads (once)')
    await archiveClasses(cache, classes)
  }
  return {
    java: [...JVM_OPTIONS, `-XX:SharedArchiveFile=${classes}`, ...classPath(cache)],
    formatted: join(cache, 'formatted'),
  }
}

/** Makes a class data archive from a running broker. With the archive, a start takes about half the work. */
async function archiveClasses(cache: string, path: string): Promise<void> {
  const making = await mkdtemp(join(cache, 'classes.making-'))
  const made = join(making, 'classes.jsa')
  const data = join(making, 'data')
  const properties = join(making, 'server.properties')
  await cp(join(cache, 'formatted'), data, { recursive: true })
  const ports = { clients: await freePort(), brokers: await freePort(), controllers: await freePort() }
  const plan = { ...ANY_PLAN, nodes: [ports] }
  await writeFile(properties, serverProperties(plan, { id: 1, data, listenAt: '127.0.0.1' }))
  const args = [...JVM_OPTIONS, `-XX:ArchiveClassesAtExit=${made}`, ...classPath(cache)]
  const child = spawn('java', [...args, 'kafka.Kafka', properties], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: making,
  })
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  try {
    await untilReady(child, START_TIMEOUT_MS)
    await end(child, 'SIGTERM')
    await rename(made, path)
  } finally {
    await end(child, 'SIGKILL')
    process.removeListener('exit', endWithUs)
    await rm(making, { recursive: true, force: true })
  }
}

/** The ports do not affect formatted data, but the tool requires some. */
const ANY_PLAN: ClusterPlan = {
  nodes: [{ clients: 9092, brokers: 9093, controllers: 9094 }],
  settings: {},
  security: {},
}

/** Makes `data` an empty data folder of node 1. The users of `plan` may log in with SCRAM. */
export async function formatData(java: KafkaJars['java'], data: string, plan: ClusterPlan): Promise<void> {
  const properties = `${data}.properties`
  await writeFile(properties, serverProperties(plan, { id: 1, data, listenAt: '127.0.0.1' }))
  const tool = ['kafka.tools.StorageTool', 'format', '--config', properties]
  const args = [...java, ...tool, ...formatArguments(plan.security)]
  const formatted = await run('java', args, { timeoutMs: FORMAT_TIMEOUT_MS })
  if (formatted.code !== 0) throw new Error(`Kafka could not format its data folder:\n${formatted.output}`)
}

function classPath(folder: string): readonly string[] {
  return ['-cp', join(folder, 'jars', '*')]
}

async function fetchJars(jars: string, version: string, log: (line: string) => void): Promise<void> {
  log(`fetching Kafka ${version} with Maven (about 45 MB, once)`)
  let count = 0
  const fetched = await run(
    'mvn',
    ['-B', '-f', POM, 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${jars}`],
    {
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
      onLine: (line) => {
        const jar = /Downloaded from \S+: \S+\/([^/\s]+\.jar) \(([^)]+)\)/.exec(line)
        if (jar !== null) log(`  ${++count}. ${jar[1]} (${jar[2]})`)
      },
    },
  )
  if (fetched.code !== 0) {
    const errors = fetched.output.split('\n').filter((line) => line.startsWith('[ERROR]'))
    throw new Error(`Maven could not fetch Kafka ${version}:\n${errors.slice(0, 10).join('\n')}`)
  }
}
