#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

// Starts the command. Node.js keeps its compiled code beside the installed packages, so that it starts in a third of the time. If
// the folder is not writable, the command starts without.
enableCompileCache(fileURLToPath(new URL('../../../node_modules/.cache/compile', import.meta.url)))
await import('./curfew.ts')
