import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { unpackDebian } from '../server/debian.ts'

/** The paths of the two programs. */
export interface Prometheus {
  readonly prometheus: string
  readonly promtool: string
}

/**
 * Finds the Prometheus server and promtool: in `PATH`, or else unpacked from Debian's package into the user's cache folder.
 *
 * @returns their paths, or the reason why they are missing.
 */
export async function findPrometheus(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Prometheus | { readonly missing: string }> {
  for (const folder of (environment.PATH ?? '').split(delimiter)) {
    const found = programsIn(folder)
    if (found !== null) return found
  }
  // The programs are linked statically. The package's dependencies are only for the pages of its classic console.
  const unpacked = await unpackDebian({
    name: 'prometheus',
    what: 'Prometheus, 19 MB',
    packages: ['prometheus'],
    dependencies: false,
  })
  if ('missing' in unpacked) return unpacked
  return programsIn(join(unpacked.root, 'usr/bin')) ?? { missing: `no programs under ${unpacked.root}` }
}

function programsIn(folder: string): Prometheus | null {
  const [prometheus, promtool] = [join(folder, 'prometheus'), join(folder, 'promtool')]
  return folder !== '' && existsSync(prometheus) && existsSync(promtool) ? { prometheus, promtool } : null
}
