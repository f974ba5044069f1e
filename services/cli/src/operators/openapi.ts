import document from '@curfew/contract/openapi.json' with { type: 'json' }
import { command, text } from '../terminal/arguments.ts'
import { writeText } from '../terminal/files.ts'

const OPTIONS = { out: text('FILE', 'write to a file; default: standard output') } as const

/** `curfew openapi`: prints the OpenAPI document of all services. It needs no running Curfew. */
export const openapi = command(
  {
    about: 'print the OpenAPI document of the API of all services',
    options: OPTIONS,
    notes: 'A running Curfew serves the document at /openapi.json, and as a page at /docs.',
    examples: ['curfew openapi --out curfew.json'],
  },
  async ({ values: { out } }) => {
    await writeText(out, `${JSON.stringify(document, null, 2)}\n`)
    return 0
  },
)
