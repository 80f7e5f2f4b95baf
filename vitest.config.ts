import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    environment: 'node',
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // What is waited for comes in milliseconds, but not on a machine that does much else.
    expect: { poll: { timeout: 10_000 } },
    globalSetup: ['test/fixtures/temporary-folder.ts'],
    // Native engines are process-wide state: a fork a file, two at a time on a small machine.
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'test/*.test.ts', 'test/simulation/*.test.ts'],
          exclude: ['**/*.gpu.test.ts'],
        },
      },
      {
        extends: true,
        // One GPU, one test file at a time, after all others.
        test: {
          name: 'gpu',
          include: ['src/**/*.gpu.test.ts'],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
      { extends: true, test: { name: 'integration', include: ['test/integration/**/*.test.ts'] } },
      { extends: true, test: { name: 'golden', include: ['test/golden/**/*.test.ts'] } },
    ],
  },
})
