// Runs before `npm start` and `npm test`: installs the packages of the lock file if they are missing or outdated. Plain
// JavaScript for any Node that the system has: the newer Node that runs Curfew is one of these packages.
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'

const changed = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
const installed = changed('node_modules/.package-lock.json')

if (installed === 0 || installed < changed('package-lock.json')) {
  console.error('Installing the packages of package-lock.json (npm ci)…')
  const npm = process.env.npm_execpath
  // Quiet: npm would warn about each package that needs a newer Node than the system's, which does not matter here.
  const ci = ['ci', '--loglevel=error', '--no-audit', '--no-fund']
  const [command, args] = npm === undefined ? ['npm', ci] : [process.execPath, [npm, ...ci]]
  const { status } = spawnSync(command, args, { stdio: ['ignore', 2, 2], shell: npm === undefined })
  process.exit(status ?? 1)
}
