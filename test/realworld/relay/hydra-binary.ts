import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cached } from '../../../deploy/server/cache.ts'
import { run } from '../../../deploy/server/process.ts'

/** The Go module that pins Hydra and its dependencies. */
const MODULE = fileURLToPath(new URL('../../../deploy/hydra', import.meta.url))
const BINARY = 'hydra'
const ASK_TIMEOUT_MS = 20_000
/** A first build takes about four minutes of processor time, and more on a busy machine. */
const BUILD_TIMEOUT_MS = 1_500_000
/** Hydra leaves SQLite out without these tags. */
const TAGS = 'sqlite,json1'

/**
 * Returns the path of Ory Hydra's binary. The first call builds it from the Go module proxy into the user's cache folder.
 *
 * @returns the path, or the reason why it is missing.
 * @throws {Error} if it is missing and `CI` is `true`: in CI no test may be skipped.
 */
export async function findHydra(): Promise<string | { readonly missing: string }> {
  const found = await build()
  if (typeof found === 'string') return found
  if (process.env.CI === 'true') throw new Error(`no Ory Hydra: ${found.missing}`)
  process.stderr.write(`\nSKIPPED, no Ory Hydra: ${found.missing}\n\n`)
  return found
}

async function build(): Promise<string | { readonly missing: string }> {
  const [module, sums] = await Promise.all(
    ['go.mod', 'go.sum'].map((name) => readFile(join(MODULE, name), 'utf8')),
  )
  const version = /ory\/hydra\/v2 (\S+)/.exec(module ?? '')?.[1]
  const digest = createHash('sha256').update(`${module}${sums}${TAGS}`).digest('hex').slice(0, 16)
  try {
    const folder = await cached(`ory-hydra-${version}-${digest}`, (making) => compile(join(making, BINARY)))
    return join(folder, BINARY)
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) }
  }
}

/** @throws {Error} with the reason, in one line. */
async function compile(binary: string): Promise<void> {
  const go = await run('go', ['version'], { timeoutMs: ASK_TIMEOUT_MS })
  if (go.code !== 0) throw new Error(`\`go version\` says "${go.summary}"`)
  process.stderr.write('building Ory Hydra with Go (minutes, once)\n')
  const flags = ['-mod=readonly', '-buildvcs=false', '-trimpath', '-ldflags=-s -w', '-tags', TAGS]
  const args = ['CGO_ENABLED=1', 'go', '-C', MODULE, 'build', ...flags, '-o', binary, '.']
  const built = await run('env', args, { timeoutMs: BUILD_TIMEOUT_MS })
  if (built.code !== 0) throw new Error(`\`go build\` in deploy/hydra says "${built.summary}"`)
}
