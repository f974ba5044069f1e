import { configDefaults, defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const REALWORLD = 'test/realworld/**/*.test.ts'
const SLOW = /\/test\/(simulation|chaos|contract)\//

/** Begins with what takes minutes: at the end one worker would be busy with it, and the other idle. */
class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const isSlow = ({ moduleId }: TestSpecification) => SLOW.test(moduleId)
    return [...sorted.filter(isSlow), ...sorted.filter((file) => !isSlow(file))]
  }
}

export default defineConfig({
  test: {
    // `npm test -- --project realworld` runs the tests against the software of others alone.
    projects: [
      {
        extends: true,
        test: {
          name: 'curfew',
          include: ['libs/**/*.test.ts', 'services/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, REALWORLD],
          globalSetup: ['test/support/database.ts', 'test/support/kafka.ts', 'test/support/end-of-run.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'realworld',
          include: [REALWORLD],
          globalSetup: ['test/support/database.ts', 'test/support/keycloak.ts', 'test/support/end-of-run.ts'],
        },
      },
    ],
    // Limits for a hang, and not for a slow machine: two cores that run three such tests may take a minute to start a process.
    testTimeout: 120_000,
    hookTimeout: 240_000,
    // More than the two cores of a small machine: most tests wait for processes, brokers and timers.
    maxWorkers: 3,
    sequence: { sequencer: SlowFirst },
    // A shared machine may stall any process once, and these tests kill and time real ones. A fault fails twice.
    retry: process.env.CI === 'true' ? 1 : 0,
  },
})
