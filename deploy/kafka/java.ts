import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fetchKafka, formatData } from './jars.ts'
import type { NodeProcess, Way } from './node.ts'
import { CLUSTER_ID, type Place, serverProperties } from './settings.ts'

/** A single node serves a whole test run. Three nodes must fit into memory beside the tests. */
const HEAP_MIB_ALONE = 320
const HEAP_MIB = 256

/** Runs nodes under Java. The jars are fetched once per version and kept outside the clone. */
export async function withJava(place: Place): Promise<Way> {
  const { folder, plan } = place
  const kafka = await fetchKafka(place)
  const heapMib = plan.nodes.length === 1 ? HEAP_MIB_ALONE : HEAP_MIB
  const formatted = plan.security.users === undefined ? kafka.formatted : join(folder, 'formatted')
  if (formatted !== kafka.formatted) await formatData(kafka.java, formatted, plan)

  const children = new Set<ChildProcess>()
  async function prepare(id: number): Promise<NodeProcess> {
    const home = join(folder, `node-${id}`)
    const data = join(home, 'data')
    await mkdir(home)
    await cp(formatted, data, { recursive: true })
    await writeFile(join(data, 'meta.properties'), metaProperties(id))
    const properties = join(home, 'server.properties')
    await writeFile(properties, serverProperties(plan, { id, data, listenAt: '127.0.0.1' }))
    let child: ChildProcess | null = null
    return {
      spawn() {
        const args = [`-Xmx${heapMib}m`, ...kafka.java, 'kafka.Kafka', properties]
        // By default Kafka writes its own logs beside the working directory.
        const started = spawn('java', args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: home })
        child = started
        children.add(started)
        started.once('exit', () => children.delete(started))
        return started
      },
      async signal(name) {
        child?.kill(name)
      },
    }
  }
  const nodes: NodeProcess[] = []
  for (let id = 1; id <= plan.nodes.length; id++) nodes.push(await prepare(id))
  return {
    how: 'maven',
    nodes,
    remove: () => rm(folder, { recursive: true, force: true }),
    endAtExit() {
      for (const child of children) child.kill('SIGKILL')
    },
  }
}

/** Names the node that the formatted data belong to. Nothing else in them differs between nodes. */
function metaProperties(id: number): string {
  const directory = randomBytes(16).toString('base64url')
  return `version=1\ncluster.id=${CLUSTER_ID}\nnode.id=${id}\ndirectory.id=${directory}\n`
}
