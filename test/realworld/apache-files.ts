import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Finished, run } from '../../deploy/kafka/process.ts'

const PACKAGES = ['apache2-bin', 'libapache2-mod-auth-openidc']
const BINARY = '/usr/sbin/apache2'
const MODULES = '/usr/lib/apache2/modules'
const ASK_TIMEOUT_MS = 20_000
const DOWNLOAD_TIMEOUT_MS = 90_000

/** Where Apache and mod_auth_openidc lie, installed or unpacked. */
export interface ApacheFiles {
  readonly binary: string
  /** The path of a module, such as `mod_auth_openidc.so`. @throws {Error} where there is none. */
  module(file: string): string
  /** What the process needs besides its own environment. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * Apache with mod_auth_openidc: what is installed, and what is not, unpacked from Debian's packages into the user's cache folder.
 * Nothing is installed, and nothing is asked for but by apt. Where that cannot be, the answer says why, in words.
 */
export async function findApache(): Promise<ApacheFiles | { readonly missing: string }> {
  const module = `${MODULES}/mod_auth_openidc.so`
  if (existsSync(BINARY) && existsSync(module)) return filesIn('')
  if (process.platform !== 'linux')
    return { missing: 'it is unpacked from Debian packages, which takes Linux' }
  // A simulation, but for the list of what would be fetched: what is installed already is not on it.
  const asked = await run(
    'apt-get',
    ['install', '--print-uris', '-qq', '--no-install-recommends', ...PACKAGES],
    {
      timeoutMs: ASK_TIMEOUT_MS,
    },
  )
  if (asked.code !== 0) return { missing: `not installed, and apt-get says "${complaint(asked)}"` }
  const archives = [...asked.output.matchAll(/^'[^']*' (\S+\.deb) /gm)]
    .map(([, file = '']) => file)
    .toSorted()
  const parent = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'curfew')
  const digest = createHash('sha256').update(archives.join(' ')).digest('hex').slice(0, 16)
  const cache = join(parent, `mod_auth_openidc-${digest}`)
  if (!existsSync(cache)) {
    await mkdir(parent, { recursive: true })
    // Made aside and renamed when complete: of two runs at once the first to finish is kept.
    const making = await mkdtemp(join(parent, 'mod_auth_openidc.making-'))
    try {
      const fault = await unpack(making, archives)
      if (fault !== null) return { missing: fault }
      await rename(making, cache)
    } catch (error) {
      if (!existsSync(cache)) throw error
    } finally {
      await rm(making, { recursive: true, force: true })
    }
  }
  return filesIn(cache)
}

/** Fetches these packages and unpacks them under `folder`. What kept it from that, in words, or null. */
async function unpack(folder: string, archives: readonly string[]): Promise<string | null> {
  process.stderr.write(
    `fetching ${archives.length} Debian packages for Apache with mod_auth_openidc (2 MB, once)\n`,
  )
  const names = archives.map((file) => file.slice(0, file.indexOf('_')))
  // apt-get saves where it runs, and has no option for another place. Without a network it is to give up soon.
  const soon = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10']
  const download = ['-c', 'cd "$0" && apt-get download -qq "$@"', folder, ...soon, ...names]
  const fetched = await run('sh', download, {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  })
  if (fetched.code !== 0) return `apt-get could not fetch it: "${complaint(fetched)}"`
  for (const file of (await readdir(folder)).filter((name) => name.endsWith('.deb'))) {
    const unpacked = await run('dpkg-deb', ['--extract', join(folder, file), folder], {
      timeoutMs: ASK_TIMEOUT_MS,
    })
    if (unpacked.code !== 0) return `dpkg-deb could not unpack ${file}: "${unpacked.summary}"`
    await rm(join(folder, file))
  }
  return null
}

/** apt warns of much that is not why it failed. */
function complaint({ output, summary }: Finished): string {
  return /^E: .*/m.exec(output)?.[0] ?? summary
}

function filesIn(root: string): ApacheFiles {
  const at = (path: string) => {
    const found = [root + path, path].find((each) => existsSync(each))
    if (found === undefined) throw new Error(`there is no ${path}, neither installed nor under ${root}`)
    return found
  }
  const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as 'x64' | 'arm64'] ?? process.arch
  return {
    binary: at(BINARY),
    module: (file) => at(`${MODULES}/${file}`),
    env: root === '' ? {} : { LD_LIBRARY_PATH: `${root}/usr/lib/${multiarch}-linux-gnu:${root}/usr/lib` },
  }
}
