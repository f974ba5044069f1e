import { fileURLToPath } from 'node:url'
import { buildWithGo } from '../../../deploy/server/go.ts'

/**
 * Returns the path of Ory Hydra's binary. The first call builds it from the Go module proxy into the user's cache folder.
 *
 * @returns the path, or the reason why it is missing.
 * @throws {Error} if it is missing and `CI` is `true`: in CI no test may be skipped.
 */
export function findHydra(): Promise<string | { readonly missing: string }> {
  return buildWithGo({
    ...{ name: 'ory-hydra', binary: 'hydra', what: 'Ory Hydra', path: 'github.com/ory/hydra/v2' },
    module: fileURLToPath(new URL('../../../deploy/hydra', import.meta.url)),
    // Hydra leaves SQLite out without these tags.
    ...{ tags: 'sqlite,json1', cgo: true },
  })
}
