// Run before `npm start` and `npm test`: installs what the lock file asks for, where that has not been done. Plain
// JavaScript for whatever Node the system has; the runtime itself, a newer one, is among what is installed.
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'

const changed = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
const installed = changed('node_modules/.package-lock.json')

if (installed === 0 || installed < changed('package-lock.json')) {
  console.error('Installing what the lock file asks for (npm ci)…')
  const npm = process.env.npm_execpath
  // Quietly: npm would warn for each package that the system's Node is too old, which does not matter here.
  const ci = ['ci', '--loglevel=error', '--no-audit', '--no-fund']
  const [command, args] = npm === undefined ? ['npm', ci] : [process.execPath, [npm, ...ci]]
  const { status } = spawnSync(command, args, { stdio: ['ignore', 2, 2], shell: npm === undefined })
  process.exit(status ?? 1)
}
