import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type DebianPackages, unpackDebian } from '../../../deploy/server/debian.ts'
import { buildWithGo } from '../../../deploy/server/go.ts'
import { run } from '../../../deploy/server/process.ts'

const ASK_TIMEOUT_MS = 20_000

/** A program to run, and the variables that it needs in addition to its own. */
export interface Program {
  readonly binary: string
  readonly env: Readonly<Record<string, string>>
}
export type Found = Program | { readonly missing: string }

export async function findNginx(): Promise<Found> {
  return findDebian('/usr/sbin/nginx', { name: 'nginx', what: 'nginx, 1 MB', packages: ['nginx'] })
}

export async function findHaproxy(): Promise<Found> {
  return findDebian('/usr/sbin/haproxy', { name: 'haproxy', what: 'HAProxy, 2 MB', packages: ['haproxy'] })
}

export async function findCaddy(): Promise<Found> {
  const built = await buildWithGo({
    ...{ name: 'caddy', binary: 'caddy', what: 'Caddy', path: 'github.com/caddyserver/caddy/v2' },
    module: fileURLToPath(new URL('../../../deploy/gate/caddy', import.meta.url)),
    cgo: false,
  })
  return typeof built === 'string' ? { binary: built, env: {} } : built
}

/** Uses an installed Traefik: to build it takes a quarter of an hour of processor time, and its module is not whole in the proxy. */
export async function findTraefik(): Promise<Found> {
  const installed = await run('traefik', ['version'], { timeoutMs: ASK_TIMEOUT_MS })
  if (installed.code === 0) return { binary: 'traefik', env: {} }
  process.stderr.write('\nSKIPPED, no Traefik: `traefik` is not on the PATH\n\n')
  return { missing: '`traefik` is not on the PATH' }
}

/** Finds an installed program, or unpacks its Debian package into the cache. */
async function findDebian(
  binary: string,
  wanted: Pick<DebianPackages, 'name' | 'what' | 'packages'>,
): Promise<Found> {
  if (existsSync(binary)) return { binary, env: {} }
  const unpacked = await unpackDebian({ ...wanted, dependencies: true })
  if ('missing' in unpacked) {
    if (process.env.CI === 'true') throw new Error(`no ${wanted.what}: ${unpacked.missing}`)
    process.stderr.write(`\nSKIPPED, no ${wanted.what}: ${unpacked.missing}\n\n`)
    return unpacked
  }
  const { root } = unpacked
  const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as 'x64' | 'arm64'] ?? process.arch
  const libraries = join(root, 'usr/lib')
  return {
    binary: root + binary,
    env: { LD_LIBRARY_PATH: `${libraries}/${multiarch}-linux-gnu:${libraries}` },
  }
}
