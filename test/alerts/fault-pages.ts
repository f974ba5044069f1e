/** The pages of the runbook whose commands need the fault that they are about. runbook.test.ts makes it and follows them. */
export const FAULT_PAGES: readonly string[] = [
  'docs/sre/runbook/endpoint-unavailable.md',
  'docs/sre/runbook/dead-letters.md',
  'docs/sre/runbook/no-worker.md',
  'docs/sre/runbook/no-bookkeeper.md',
]
