import { runGate } from './run.ts'

// The gate as a process, for images and service managers. People run `curfew gate`.

process.exitCode = await runGate()
