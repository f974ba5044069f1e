import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Returns the folder `name` of the user's cache. If it is missing, `fill` fills it first.
 *
 * It is filled under a temporary name and renamed when it is complete. Two processes may each fill one; the first to finish wins.
 */
export async function cached(
  name: string,
  fill: (folder: string) => Promise<void>,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string> {
  const parent = join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'curfew')
  const cache = join(parent, name)
  if (await exists(cache)) return cache
  await mkdir(parent, { recursive: true })
  const making = await mkdtemp(join(parent, `${name}.making-`))
  try {
    await fill(making)
    await rename(making, cache)
  } catch (error) {
    if (!(await exists(cache))) throw error
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return cache
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
