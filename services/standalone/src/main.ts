import { readOrExit } from '@curfew/runtime'
import { readStandaloneConfig, runStandalone } from './standalone.ts'

// Everything in one process, for images and service managers; people type `curfew up`.

process.exitCode = await runStandalone(readOrExit(readStandaloneConfig), {
  demo: false,
  print: (text) => process.stdout.write(text),
})
