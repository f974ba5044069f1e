import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cached } from './cache.ts'
import { run } from './process.ts'

const ASK_TIMEOUT_MS = 20_000
/** A first build of a large program takes minutes of processor time, and more on a busy machine. */
const BUILD_TIMEOUT_MS = 1_500_000

export interface GoProgram {
  /** Begins the name of the folder in the cache. */
  readonly name: string
  /** The file name of the program. */
  readonly binary: string
  /** The software, for people, such as `Ory Hydra`. */
  readonly what: string
  /** The folder of the Go module that pins the program and its dependencies. */
  readonly module: string
  /** The module path of the program, whose version is in the name of the folder. */
  readonly path: string
  /** Build tags, separated by commas. */
  readonly tags?: string
  readonly cgo: boolean
}

/**
 * Builds a program from the Go module proxy into the user's cache folder, once.
 *
 * @returns the path of the binary, or the reason why it is missing.
 * @throws {Error} if it is missing and `CI` is `true`: in CI no test may be skipped.
 */
export async function buildWithGo(program: GoProgram): Promise<string | { readonly missing: string }> {
  const found = await build(program)
  if (typeof found === 'string') return found
  if (process.env.CI === 'true') throw new Error(`no ${program.what}: ${found.missing}`)
  process.stderr.write(`\nSKIPPED, no ${program.what}: ${found.missing}\n\n`)
  return found
}

async function build(program: GoProgram): Promise<string | { readonly missing: string }> {
  const { name, binary, module: folder, path, tags = '' } = program
  const [module = '', sums = ''] = await Promise.all(
    ['go.mod', 'go.sum'].map((file) => readFile(join(folder, file), 'utf8')),
  )
  const at = module.indexOf(`${path} v`)
  const version = module.slice(at + path.length + 1).split(/\s/, 1)[0]
  const digest = createHash('sha256').update(`${module}${sums}${tags}`).digest('hex').slice(0, 16)
  try {
    const made = await cached(`${name}-${version}-${digest}`, (making) =>
      compile(join(making, binary), program),
    )
    return join(made, binary)
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) }
  }
}

/** @throws {Error} with the reason, in one line. */
async function compile(binary: string, { what, module, tags, cgo }: GoProgram): Promise<void> {
  const go = await run('go', ['version'], { timeoutMs: ASK_TIMEOUT_MS })
  if (go.code !== 0) throw new Error(`\`go version\` says "${go.summary}"`)
  process.stderr.write(`building ${what} with Go (minutes, once)\n`)
  const flags = ['-mod=readonly', '-buildvcs=false', '-trimpath', '-ldflags=-s -w']
  const tagged = tags === undefined ? [] : ['-tags', tags]
  const args = [`CGO_ENABLED=${Number(cgo)}`, 'go', '-C', module, 'build', ...flags, ...tagged]
  const built = await run('env', [...args, '-o', binary, '.'], { timeoutMs: BUILD_TIMEOUT_MS })
  if (built.code !== 0) throw new Error(`\`go build\` of ${what} says "${built.summary}"`)
}
