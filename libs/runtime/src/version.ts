import manifest from '../package.json' with { type: 'json' }

/** The release: one version for the whole repository. */
export const VERSION: string = manifest.version
