import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../../deploy/server/ports.ts'
import { eventually } from '../../support/curfew.ts'
import { type Served, serve } from '../serve.ts'
import { type Found, findCaddy, findHaproxy, findNginx, findTraefik, type Program } from './software.ts'

/** A real gateway that runs its file of deploy/gate. */
export interface Gateway {
  readonly url: string
  close(): Promise<void>
}

export interface Places {
  /** The URL of the gate. */
  readonly gate: string
  /** The URL of the API behind the gateway. */
  readonly api: string
}

export interface GatewayKind {
  readonly name: string
  readonly find: () => Promise<Found>
  readonly open: (program: Program, places: Places) => Promise<Gateway>
  /** The statuses that the client gets. */
  readonly statuses: {
    /** With two `Authorization` headers. */
    readonly malformed: number
    /** While the gate does not know the newest logouts, with the policy `deny`. */
    readonly stale: number
    /** While the gate does not answer. */
    readonly down: number
  }
}

export const GATEWAYS: readonly GatewayKind[] = [
  {
    name: 'nginx',
    find: findNginx,
    // nginx itself refuses a second Authorization header.
    statuses: { malformed: 400, stale: 500, down: 500 },
    open: (program, places) =>
      openGateway(places, ['nginx.conf'], async ({ folder, url }) => {
        const user = process.getuid?.() === 0 ? 'user root;' : ''
        const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
          (name) => `${name}_temp_path ${folder}/${name};`,
        )
        const main = `daemon off; ${user} pid ${folder}/pid; worker_processes 1; events {} http { access_log off; ${temporary.join(' ')} include ${folder}/nginx.conf; }`
        await writeFile(join(folder, 'main.conf'), main)
        const args = ['-c', join(folder, 'main.conf'), '-p', folder, '-e', 'stderr']
        return serve(program.binary, args, { url, cwd: folder, env: program.env })
      }),
  },
  {
    name: 'HAProxy',
    find: findHaproxy,
    statuses: { malformed: 400, stale: 503, down: 503 },
    open: (program, places) =>
      openGateway(places, ['haproxy.cfg', 'curfew.lua'], ({ folder, url }) =>
        serve(program.binary, ['-f', 'haproxy.cfg', '-db'], { url, cwd: folder, env: program.env }),
      ),
  },
  {
    name: 'Caddy',
    find: findCaddy,
    statuses: { malformed: 400, stale: 503, down: 502 },
    open: (program, places) =>
      openGateway(places, ['Caddyfile'], ({ folder, url }) =>
        serve(program.binary, ['run', '--config', 'Caddyfile', '--adapter', 'caddyfile'], {
          ...{ url, cwd: folder },
          env: { ...program.env, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
        }),
      ),
  },
  {
    name: 'Traefik',
    find: findTraefik,
    statuses: { malformed: 400, stale: 503, down: 500 },
    open: (program, places) =>
      openGateway(places, ['traefik.yaml', 'traefik-dynamic.yaml'], ({ folder, url }) =>
        serve(program.binary, ['--configFile=traefik.yaml'], { url, cwd: folder, env: program.env }),
      ),
  },
]

/** Copies files of deploy/gate into a new folder, with the addresses of this test, and starts the gateway there. */
async function openGateway(
  { gate, api }: Places,
  files: readonly string[],
  start: (at: { readonly folder: string; readonly url: string }) => Promise<Served>,
): Promise<Gateway> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'curfew-gateway-'))
  await chmod(folder, 0o755)
  const addresses = [
    ['127.0.0.1:8485', new URL(gate).host],
    ['127.0.0.1:3000', new URL(api).host],
    [':8080', `:${port}`],
  ] as const
  for (const file of files) {
    let text = await readFile(new URL(`../../../deploy/gate/${file}`, import.meta.url), 'utf8')
    for (const [shown, real] of addresses) text = text.replaceAll(shown, real)
    await writeFile(join(folder, file), text)
  }
  const url = `http://127.0.0.1:${port}`
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const served = await start({ folder, url })
    // Traefik listens before it has its routes.
    await eventually(async () => {
      if ((await fetch(url)).status === 404) throw new Error(`${url} has no routes yet`)
    })
    return {
      url,
      async close() {
        await served.close()
        await remove()
      },
    }
  } catch (error) {
    await remove()
    throw error
  }
}
