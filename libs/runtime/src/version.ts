import manifest from '../package.json' with { type: 'json' }

/** The release: the whole repository has one version. */
export const VERSION: string = manifest.version
