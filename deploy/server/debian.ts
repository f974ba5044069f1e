import { createHash } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cached } from './cache.ts'
import { type Finished, run } from './process.ts'

const ASK_TIMEOUT_MS = 60_000
const DOWNLOAD_TIMEOUT_MS = 90_000

export interface DebianPackages {
  /** Begins the name of the folder in the cache. */
  readonly name: string
  /** The software, for the line that announces the download, such as `Prometheus (19 MB)`. */
  readonly what: string
  readonly packages: readonly string[]
  /** Whether to unpack also the packages that these depend on and that are not installed. */
  readonly dependencies: boolean
}

/**
 * Downloads Debian packages with apt and unpacks them into the user's cache folder, once. It installs nothing.
 *
 * @returns the folder under which the files lie as they would lie under `/`, or the reason why they are missing.
 */
export async function unpackDebian(
  wanted: DebianPackages,
): Promise<{ readonly root: string } | { readonly missing: string }> {
  if (process.platform !== 'linux')
    return { missing: 'it is unpacked from Debian packages, which needs Linux' }
  // Both only list what they would download. Installed packages are not listed as dependencies.
  const list = wanted.dependencies
    ? ['install', '--print-uris', '-qq', '--no-install-recommends']
    : ['download', '--print-uris', '-qq']
  const listed = await run('apt-get', [...list, ...wanted.packages], { timeoutMs: ASK_TIMEOUT_MS })
  if (listed.code !== 0) return { missing: `not installed, and apt-get failed: "${complaint(listed)}"` }
  const archives = [...listed.output.matchAll(/^'[^']*' (\S+\.deb) /gm)]
    .map(([, file = '']) => file)
    .toSorted()
  const digest = createHash('sha256').update(archives.join(' ')).digest('hex').slice(0, 16)
  try {
    const root = await cached(`${wanted.name}-${digest}`, (folder) => unpack(folder, archives, wanted.what))
    return { root }
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) }
  }
}

/**
 * Downloads these packages and unpacks them under `folder`.
 *
 * @throws {Error} if apt-get or dpkg-deb fails, with its complaint.
 */
async function unpack(folder: string, archives: readonly string[], what: string): Promise<void> {
  process.stderr.write(`fetching Debian packages for ${what} (${archives.length}, once)\n`)
  const names = archives.map((file) => file.slice(0, file.indexOf('_')))
  // apt-get saves to the working folder and has no option for another one. Without a network it must give up soon.
  const limits = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10']
  const download = ['-c', 'cd "$0" && apt-get download -qq "$@"', folder, ...limits, ...names]
  const fetched = await run('sh', download, { timeoutMs: DOWNLOAD_TIMEOUT_MS })
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
