import { fileURLToPath } from 'node:url'
import { createConfig, formatProblems, lint } from '@redocly/openapi-core'

// Lints the OpenAPI document by the linter's recommended rules: `npm run check`.

const DOCUMENT = fileURLToPath(new URL('../libs/contract/openapi.json', import.meta.url))

const config = await createConfig({ extends: ['recommended-strict'], rules: {} })
const problems = await lint({ ref: DOCUMENT, config })
formatProblems(problems, {
  format: 'stylish',
  totals: { errors: problems.length, warnings: 0, ignored: 0 },
  version: '',
})
if (problems.length > 0) process.exitCode = 1
