import { type ChildProcess, spawn } from 'node:child_process'
import { access, cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { kafkaVersion, type Place, POM, type RunningKafka, serverProperties } from './node.ts'
import { end, run, untilReady } from './process.ts'

const DOWNLOAD_TIMEOUT_MS = 600_000
const START_TIMEOUT_MS = 60_000
/** Any 16 bytes in base64url: the nodes are alone, so they may all claim the same cluster. */
const CLUSTER_ID = 'Y3VyZmV3LXRlc3RzLTAwMQ'

/** Small and quick to start: no compiler beyond the first tier, one collector thread, no JMX. */
const JVM_OPTIONS = [
  '-Xms64m',
  '-Xmx320m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Xshare:auto',
  '-Djava.awt.headless=true',
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
  '-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info',
]

/** Runs a broker under Java. The jars are fetched once for each version, and kept outside the clone. */
export async function openWithJava(place: Place): Promise<RunningKafka> {
  const { folder, port, controllerPort, log } = place
  const cache = await cached(place)
  const data = join(folder, 'data')
  await cp(join(cache, 'formatted'), data, { recursive: true })
  const properties = join(folder, 'server.properties')
  await writeProperties(properties, data, { port, controllerPort })
  const classPath = join(cache, 'jars', '*')

  let child: ChildProcess | null = null
  const start = async () => {
    child = spawn('java', [...JVM_OPTIONS, '-cp', classPath, 'kafka.Kafka', properties], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Kafka writes its own logs beside the working directory when it is told nothing.
      cwd: folder,
    })
    process.once('exit', endWithUs)
    await untilReady(child, START_TIMEOUT_MS)
  }
  // A broker must not outlive a test run that ends in a crash. SIGKILL of ours is beyond this.
  const endWithUs = () => child?.kill('SIGKILL')
  const leave = async (signal: 'SIGTERM' | 'SIGKILL') => {
    process.removeListener('exit', endWithUs)
    if (child !== null) await end(child, signal)
  }

  log(`starting Kafka on 127.0.0.1:${port}`)
  try {
    await start()
  } catch (error) {
    await leave('SIGKILL')
    throw error
  }
  return {
    how: 'maven',
    brokers: [`127.0.0.1:${port}`],
    // Its data goes with it, so there is nothing that a gentle end would keep.
    stop: async () => {
      await leave('SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
    kill: () => leave('SIGKILL'),
    restart: async () => {
      await leave('SIGKILL')
      await start()
    },
    suspend: async () => {
      child?.kill('SIGSTOP')
    },
    resume: async () => {
      child?.kill('SIGCONT')
    },
  }
}

/** The folder of this version's jars and of a formatted, empty data folder; made if it is not there. */
async function cached({ environment, log }: Place): Promise<string> {
  const version = await kafkaVersion()
  const parent = join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'curfew')
  const cache = join(parent, `kafka-${version}`)
  if (await exists(cache)) return cache
  await mkdir(parent, { recursive: true })
  // Made aside and renamed when complete: two processes at once each make one, and the first to finish is kept.
  const making = await mkdtemp(join(parent, `kafka-${version}.making-`))
  try {
    await fetchJars(join(making, 'jars'), version, log)
    log('formatting an empty data folder')
    await format(making)
    await rename(making, cache)
  } catch (error) {
    if (!(await exists(cache))) throw error
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return cache
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

async function format(folder: string): Promise<void> {
  const properties = join(folder, 'format.properties')
  const data = join(folder, 'formatted')
  // The ports do not enter the formatted data, but the tool insists on some.
  await writeProperties(properties, data, { port: 9092, controllerPort: 9093 })
  const formatted = await run(
    'java',
    [
      ...JVM_OPTIONS,
      '-cp',
      join(folder, 'jars', '*'),
      'kafka.tools.StorageTool',
      'format',
      '--cluster-id',
      CLUSTER_ID,
      '--config',
      properties,
    ],
    { timeoutMs: START_TIMEOUT_MS },
  )
  if (formatted.code !== 0) throw new Error(`Kafka could not format its data folder:\n${formatted.output}`)
}

async function writeProperties(
  path: string,
  data: string,
  { port, controllerPort }: { port: number; controllerPort: number },
): Promise<void> {
  const properties = serverProperties({
    'log.dirs': data,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
  })
  await writeFile(
    path,
    Object.entries(properties)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
