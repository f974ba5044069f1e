import { parseArgs } from 'node:util'
import { simulate, type Verdict } from './run.ts'

// npm run simulate: runs the delivery service in virtual time, from seeds. Prints the seeds that fail. With --seed, a seed runs
// again exactly as before.

const { values: flags } = parseArgs({
  options: {
    /** The number of seeds to run. */
    seeds: { type: 'string', default: '10000' },
    /** The first seed. */
    seed: { type: 'string', default: '1' },
    /** Prints all that happens. */
    verbose: { type: 'boolean', default: false },
  },
})
const first = wholeNumber('seed', flags.seed)
const given = process.argv.some((argument) => argument.startsWith('--seeds'))
const replay = !given && process.argv.some((argument) => /^--seed\b/.test(argument))
const count = replay ? 1 : wholeNumber('seeds', flags.seeds)

const print = (line: string) => process.stderr.write(`${line}\n`)
const startedMs = Date.now()
const PROGRESS_MS = 5_000
let printedMs = startedMs
let failed = 0
let deliveries = 0
let posts = 0

for (let seed = first; seed < first + count; seed++) {
  const verdict = await simulate(seed, flags.verbose ? { onTrace: (line) => console.log(line) } : {})
  if (replay) print(`digest ${verdict.digest}`)
  deliveries += verdict.deliveries
  posts += verdict.posts
  if (verdict.violations.length > 0) {
    failed += 1
    report(verdict)
  }
  if (Date.now() - printedMs < PROGRESS_MS) continue
  printedMs = Date.now()
  print(`${seed - first + 1} of ${count} seeds, ${failed} failed`)
}
const seconds = ((Date.now() - startedMs) / 1_000).toFixed(1)
print(`${count} seeds in ${seconds} s: ${deliveries} deliveries, ${posts} POSTs, ${failed} seeds failed`)
process.exitCode = failed === 0 ? 0 : 1

function report({ seed, violations, lastedMs }: Verdict): void {
  print(`seed ${seed} failed after ${lastedMs} ms of virtual time:`)
  for (const violation of violations) print(`  ${violation}`)
  print(`  repeat: npm run simulate -- --seed ${seed} --verbose`)
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  console.error(`--${name} must be a whole number, not ${text}`)
  process.exit(2)
}
