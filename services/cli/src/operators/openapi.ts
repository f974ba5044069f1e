import { readFile } from 'node:fs/promises'
import { command, text } from '../terminal/arguments.ts'
import { writeText } from '../terminal/files.ts'

const OPTIONS = { out: text('FILE', 'write to a file; default: standard output') } as const
const DOCUMENT = new URL(import.meta.resolve('@curfew/contract/openapi.json'))

/** `curfew openapi`: prints the OpenAPI document of all services. It needs no running Curfew. */
export const openapi = command(
  {
    about: 'print the OpenAPI document of the API of all services',
    options: OPTIONS,
    notes: 'A running Curfew serves the document at /openapi.json, and as a page at /docs.',
    examples: ['curfew openapi --out curfew.json'],
  },
  async ({ values: { out } }) => {
    await writeText(out, await readFile(DOCUMENT, 'utf8'))
    return 0
  },
)
