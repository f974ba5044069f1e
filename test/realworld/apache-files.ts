import { existsSync } from 'node:fs'
import { unpackDebian } from '../../deploy/server/debian.ts'

const PACKAGES = ['apache2-bin', 'libapache2-mod-auth-openidc']
const BINARY = '/usr/sbin/apache2'
const MODULES = '/usr/lib/apache2/modules'

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
  const unpacked = await unpackDebian({
    name: 'mod_auth_openidc',
    what: 'Apache with mod_auth_openidc, 2 MB',
    packages: PACKAGES,
    dependencies: true,
  })
  return 'missing' in unpacked ? unpacked : filesIn(unpacked.root)
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
