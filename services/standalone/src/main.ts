import { readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from './standalone.ts'

// The standalone process, for images and service managers. People run `curfew up`.

process.exitCode = await runStandalone(readOrExit(readStandaloneConfig), { demo: false })
