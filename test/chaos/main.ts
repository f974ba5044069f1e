import { parseArgs } from 'node:util'
import { startVitest, type TestCase } from 'vitest/node'
import type { Report } from './chaos.ts'

// npm run chaos: runs the cases of test/chaos in their long form, one after the other. Progress goes to standard error, and a
// table (or JSON) to standard output. The exit status is 1 if anything was lost or another expectation failed.

const CASES = [
  'services-kill',
  'postgres-away',
  'workers-churn',
  'brokers-restart',
  'brokers-kill',
  'brokers-hang',
  'standalone-kill',
  'full-disk',
]

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    /** Minutes in all, shared by the cases. The time to start and settle is added. */
    minutes: { type: 'string', default: '4' },
    /** The seed of an earlier run. */
    seed: { type: 'string' },
    /** Runs this case only. */
    case: { type: 'string' },
  },
})
const minutes = Number(flags.minutes)
if (!(minutes > 0) || (flags.case !== undefined && !CASES.includes(flags.case))) {
  process.stderr.write(`--minutes must be a number above 0, and --case one of ${CASES.join(', ')}\n`)
  process.exit(2)
}
const cases = flags.case === undefined ? CASES : [flags.case]
process.env.CHAOS_SECONDS = String((minutes * 60) / cases.length)
if (flags.seed !== undefined) process.env.CHAOS_SEED = flags.seed

interface Row extends Report {
  readonly result: 'passed' | 'failed' | 'skipped' | 'pending'
}

const rows: Row[] = []
const vitest = await startVitest('test', ['test/chaos/'], {
  watch: false,
  fileParallelism: false,
  retry: 0,
  testNamePattern: `^(?:${cases.join('|')}): `,
  reporters: [
    {
      onTestCaseResult(test: TestCase) {
        const { chaos } = test.meta()
        const { state, errors } = test.result()
        if (chaos !== undefined) rows.push({ ...chaos, result: state })
        for (const { message } of errors ?? []) process.stderr.write(`${test.name} ${state}: ${message}\n`)
      },
    },
  ],
})
await vitest.close()

for (const error of vitest.state.getUnhandledErrors()) process.stderr.write(`${String(error)}\n`)
const failed = rows.filter(({ result }) => result !== 'passed')
// Vitest itself sets the exit status for failures outside a case.
if (failed.some(({ result }) => result !== 'skipped') || rows.length < cases.length) process.exitCode = 1
process.stdout.write(flags.json ? `${JSON.stringify(rows, null, 2)}\n` : `\n${table()}\n`)
for (const { case: name, seed } of failed) {
  process.stderr.write(
    `Run it again: npm run chaos -- --case ${name} --minutes ${minutes / cases.length} --seed ${seed}\n`,
  )
}

function table(): string {
  const lines = [
    [
      'case',
      'result',
      'seconds',
      'accepted',
      'sessions',
      'kills',
      'lost',
      'late',
      'duplicates',
      'superseded',
      'slowest',
      'seed',
    ],
    ...rows.map((row) => [
      row.case,
      row.result,
      row.seconds.toFixed(0),
      String(row.accepted),
      String(row.sessions),
      String(row.kills),
      String(row.lost ?? '?'),
      String(row.late ?? '?'),
      String(row.duplicates ?? '?'),
      String(row.superseded ?? '?'),
      row.slowestMs === null ? '?' : `${(row.slowestMs / 1_000).toFixed(1)} s`,
      String(row.seed),
    ]),
  ]
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  )
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('   '),
    )
    .join('\n')
}
