import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['libs/**/*.test.ts', 'services/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['test/support/database.ts', 'test/support/kafka.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    // A shared machine may stall any process once, and these tests kill and time real ones. A fault fails twice.
    retry: process.env.CI === 'true' ? 1 : 0,
  },
})
