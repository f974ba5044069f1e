import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Returns a folder of the user's cache, outside the clone. Makes it once, under a temporary name, and renames it when it is
 * complete. Two processes may each make one; the first to finish wins.
 *
 * @param name names the content and its version.
 * @param make fills the given empty folder.
 */
export async function cachedFolder(
  name: string,
  make: (folder: string) => Promise<void>,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string> {
  const parent = join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'curfew')
  const folder = join(parent, name)
  if (await exists(folder)) return folder
  await mkdir(parent, { recursive: true })
  const making = await mkdtemp(join(parent, `${name}.making-`))
  try {
    await make(making)
    await rename(making, folder)
  } catch (error) {
    if (!(await exists(folder))) throw error
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return folder
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
