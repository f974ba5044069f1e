import { spawn } from 'node:child_process'
import { access, cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
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

/** Kafka as Java runs it. */
export interface KafkaJars {
  /** How Java is told to run the class that comes next. */
  readonly java: readonly string[]
  /** An empty data folder of node 1, to be copied. */
  readonly formatted: string
}

/** Small and quick to start: no compiler beyond the first tier, one collector thread, no JMX. */
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

/** The jars of this version, a formatted, empty data folder, and what makes starts quick; made if they are not there. */
export async function fetchKafka({
  environment,
  log,
}: Pick<Place, 'environment' | 'log'>): Promise<KafkaJars> {
  const version = await kafkaVersion()
  const parent = join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'curfew')
  const cache = join(parent, `kafka-${version}`)
  if (!(await exists(cache))) {
    await mkdir(parent, { recursive: true })
    // Made aside and renamed when complete: two processes at once each make one, and the first to finish is kept.
    const making = await mkdtemp(join(parent, `kafka-${version}.making-`))
    try {
      await fetchJars(join(making, 'jars'), version, log)
      log('formatting an empty data folder')
      await formatData([...JVM_OPTIONS, ...classPath(making)], join(making, 'formatted'), ANY_PLAN)
      await rename(making, cache)
    } catch (error) {
      if (!(await exists(cache))) throw error
    } finally {
      await rm(making, { recursive: true, force: true })
    }
  }
  const classes = join(cache, 'classes.jsa')
  if (!(await exists(classes))) {
    log('noting which classes a broker loads (once)')
    await archiveClasses(cache, classes)
  }
  return {
    java: [...JVM_OPTIONS, `-XX:SharedArchiveFile=${classes}`, ...classPath(cache)],
    formatted: join(cache, 'formatted'),
  }
}

/** Makes a class data archive of a broker that serves: a start with it takes about half the work. */
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

/** Ports do not enter formatted data, but the tool insists on some. */
const ANY_PLAN: ClusterPlan = {
  nodes: [{ clients: 9092, brokers: 9093, controllers: 9094 }],
  settings: {},
  security: {},
}

/** Makes `data` a data folder of node 1 without records; the users of `plan` may log in with SCRAM. */
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
    const said = fetched.output.split('\n').filter((line) => line.startsWith('[ERROR]'))
    throw new Error(`Maven could not fetch Kafka ${version}:\n${said.slice(0, 10).join('\n')}`)
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
