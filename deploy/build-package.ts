import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { contractTypes } from './contract-types.ts'

// Builds a library for publishing: `npm run build`, or `node deploy/build-package.ts FOLDER [OUT]`. In this repository every
// package runs from its sources. OUT (default FOLDER/dist) receives JavaScript, types and a manifest: `npm publish FOLDER/dist`.
// A package may import types of the contract. It then gets a file of them, and depends on no other package of the workspace.

interface Manifest {
  readonly private?: boolean
  readonly exports: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly [member: string]: unknown
}

const root = resolve(import.meta.dirname, '..')
const CONTRACT = '@curfew/contract'
/** The file of the contract's types in a built package. */
const CONTRACT_TYPES = 'contract.d.ts'

/** The manifest of the published package: the manifest of the sources, whose paths lead to the built files instead. */
function publishedManifest({ private: _private, exports, dependencies = {}, ...rest }: Manifest): object {
  const built = (path: string) => path.replace(/^\.\/src\//, './').replace(/\.ts$/, '')
  return {
    ...rest,
    sideEffects: false,
    exports: Object.fromEntries(
      Object.entries(exports).map(([name, path]) => [
        name,
        { types: `${built(path)}.d.ts`, default: `${built(path)}.js` },
      ]),
    ),
    // This repository tests one version; an app may have another compatible one.
    dependencies: Object.fromEntries(
      Object.entries(dependencies)
        .filter(([name]) => name !== CONTRACT)
        .map(([name, version]) => [name, `^${version}`]),
    ),
  }
}

function compile(folder: string, out: string): void {
  const config = join(out, 'tsconfig.json')
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        noEmit: false,
        declaration: true,
        rewriteRelativeImportExtensions: true,
        rootDir: join(folder, 'src'),
        outDir: out,
        typeRoots: [join(root, 'node_modules/@types')],
        paths: { [CONTRACT]: [join(out, CONTRACT_TYPES)] },
      },
      include: [join(folder, 'src')],
      exclude: [join(folder, 'src/**/*.test.ts'), join(folder, 'src/**/*.fixture.ts')],
    }),
  )
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', config], {
    stdio: 'inherit',
  })
  rmSync(config)
  // The compiler rewrites import extensions in JavaScript only. Older compilers do not find types under the `.ts` names.
  for (const name of readdirSync(out, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.d.ts')) continue
    const types = readFileSync(join(out, name), 'utf8')
    const contract = relative(dirname(name), CONTRACT_TYPES.replace('.d.ts', '.js'))
    writeFileSync(
      join(out, name),
      types
        .replaceAll(/(\bfrom |\bimport\()'(\.[^']*)\.ts'/g, "$1'$2.js'")
        .replaceAll(`'${CONTRACT}'`, `'${contract.startsWith('.') ? '' : './'}${contract}'`),
    )
  }
}

const [source, target] = process.argv.slice(2)
if (source === undefined) {
  console.error('usage: node deploy/build-package.ts FOLDER [OUT]')
  process.exit(2)
}
const folder = resolve(source)
const out = resolve(target ?? join(folder, 'dist'))
rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
if (manifest.dependencies?.[CONTRACT] !== undefined)
  writeFileSync(join(out, CONTRACT_TYPES), await contractTypes(folder, join(root, 'libs/contract')))
compile(folder, out)
writeFileSync(join(out, 'package.json'), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`)
copyFileSync(join(root, 'LICENSE'), join(out, 'LICENSE'))
const readme = join(folder, 'README.md')
if (existsSync(readme)) copyFileSync(readme, join(out, 'README.md'))
