import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cached } from '../../deploy/kafka/cache.ts'
import { type Finished, run } from '../../deploy/kafka/process.ts'

const PACKAGES = ['apache2-bin', 'libapache2-mod-auth-openidc']
const BINARY = '/usr/sbin/apache2'
const MODULES = '/usr/lib/apache2/modules'
const ASK_TIMEOUT_MS = 20_000
const DOWNLOAD_TIMEOUT_MS = 90_000

/** The files of Apache and mod_auth_openidc, installed or unpacked. */
export interface ApacheFiles {
  readonly binary: string
  /** The path of a module, such as `mod_auth_openidc.so`. @throws {Error} if the module is missing. */
  module(file: string): string
  /** Environment variables that the process needs in addition to its own. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * Finds Apache with mod_auth_openidc. It uses the installed files, or downloads the missing Debian packages with apt and unpacks
 * them into the user's cache folder. It installs nothing.
 *
 * @returns the files, or the reason why they are missing.
 */
export async function findApache(): Promise<ApacheFiles | { readonly missing: string }> {
  const module = `${MODULES}/mod_auth_openidc.so`
  if (existsSync(BINARY) && existsSync(module)) return filesIn('')
  if (process.platform !== 'linux')
    return { missing: 'it is unpacked from Debian packages, which needs Linux' }
  // apt-get only lists the packages that an installation would download. Installed packages are not listed.
  const listed = await run(
    'apt-get',
    ['install', '--print-uris', '-qq', '--no-install-recommends', ...PACKAGES],
    {
      timeoutMs: ASK_TIMEOUT_MS,
    },
  )
  if (listed.code !== 0) return { missing: `not installed, and apt-get failed: "${complaint(listed)}"` }
  const archives = [...listed.output.matchAll(/^'[^']*' (\S+\.deb) /gm)]
    .map(([, file = '']) => file)
    .toSorted()
  const digest = createHash('sha256').update(archives.join(' ')).digest('hex').slice(0, 16)
  let cache: string
  try {
    cache = await cached(`mod_auth_openidc-${digest}`, (folder) => unpack(folder, archives))
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) }
  }
  return filesIn(cache)
}

/**
 * Downloads these packages and unpacks them under `folder`.
 *
 * @throws {Error} if apt-get or dpkg-deb fails, with its complaint.
 */
async function unpack(folder: string, archives: readonly string[]): Promise<void> {
  process.stderr.write(
    `fetching ${archives.length} Debian packages for Apache with mod_auth_openidc (2 MB, once)\n`,
  )
  const names = archives.map((file) => file.slice(0, file.indexOf('_')))
  // apt-get saves to the working folder and has no option for another one. Without a network it must give up soon.
  const limits = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10']
  const download = ['-c', 'cd "$0" && apt-get download -qq "$@"', folder, ...limits, ...names]
  const fetched = await run('sh', download, {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  })
  if (fetched.code !== 0) throw new Error(`apt-get could not download it: "${complaint(fetched)}"`)
  for (const file of (await readdir(folder)).filter((name) => name.endsWith('.deb'))) {
    const unpacked = await run('dpkg-deb', ['--extract', join(folder, file), folder], {
      timeoutMs: ASK_TIMEOUT_MS,
    })
    if (unpacked.code !== 0) throw new Error(`dpkg-deb could not unpack ${file}: "${unpacked.summary}"`)
    await rm(join(folder, file))
  }
}

/** The error line of apt-get's output, without its warnings. */
function complaint({ output, summary }: Finished): string {
  return /^E: .*/m.exec(output)?.[0] ?? summary
}

function filesIn(root: string): ApacheFiles {
  const at = (path: string) => {
    const found = [root + path, path].find((candidate) => existsSync(candidate))
    if (found === undefined) throw new Error(`${path} is missing, both installed and under ${root}`)
    return found
  }
  const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as 'x64' | 'arm64'] ?? process.arch
  return {
    binary: at(BINARY),
    module: (file) => at(`${MODULES}/${file}`),
    env: root === '' ? {} : { LD_LIBRARY_PATH: `${root}/usr/lib/${multiarch}-linux-gnu:${root}/usr/lib` },
  }
}
