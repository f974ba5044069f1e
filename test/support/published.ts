import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { checkPackage, createPackageFromTarballData, type Problem } from '@arethetypeswrong/core'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

// A published package in an app outside of this repository: built, packed as for publishing, and installed from the packed file.

const run = promisify(execFile)
const modules = resolve('node_modules')

export interface PublishedApp {
  /** The folder of the build. */
  readonly built: string
  /** The folder of the app, which has only the package and its dependencies. */
  readonly app: string
  /** The paths of the files in the package. */
  readonly files: readonly string[]
  readonly manifest: Readonly<Record<string, unknown>>
  /** The findings of publint and of Are The Types Wrong. */
  problems(): Promise<readonly string[]>
  /** Runs a module of the app under the Node.js of the system, which may be older than that of this repository. */
  runModule(source: string): Promise<{ readonly stdout: string; readonly stderr: string }>
  /** Compiles a module of the app with `nodenext`. @returns the output of the compiler. */
  compile(source: string, options: readonly string[]): Promise<string>
  close(): Promise<void>
}

/** @param dependencies the packages that npm shall not fetch: they are packed from this repository. */
export async function installPublished(
  library: string,
  dependencies: readonly string[] = [],
): Promise<PublishedApp> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-published-'))
  const [built, app] = [join(folder, 'built'), join(folder, 'app')]
  await mkdir(app)
  await run(process.execPath, ['deploy/build-package.ts', library, built])
  const packed = await pack(built, folder)
  const needed = await Promise.all(dependencies.map((name) => pack(join(modules, name), folder)))
  await writeFile(join(app, 'package.json'), '{ "type": "module", "private": true }')
  const tarballs = [packed, ...needed].map(({ tarball }) => tarball)
  await npm(['install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs], app)
  const manifest = JSON.parse(await readFile(join(built, 'package.json'), 'utf8')) as { name: string }
  return {
    ...{ built, app, manifest, files: packed.files },
    problems: () => packagingProblems(packed.tarball),
    async runModule(source) {
      await writeFile(join(app, 'main.js'), source)
      return run(systemNode(), ['main.js'], { cwd: app })
    },
    async compile(source, options) {
      await writeFile(join(app, 'main.ts'), source)
      const always = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext']
      const tsc = [
        join(modules, 'typescript/bin/tsc'),
        ...always,
        '--target',
        'es2022',
        ...options,
        'main.ts',
      ]
      const compiled = await run(process.execPath, tsc, { cwd: app }).catch((error) => error)
      return compiled.stdout
    },
    close: () => rm(folder, { recursive: true, force: true }),
  }
}

/** Lets the app use the types of Node.js. */
export async function linkNodeTypes({ app }: PublishedApp): Promise<void> {
  await mkdir(join(app, 'node_modules/@types'), { recursive: true })
  for (const name of ['@types/node', 'undici-types'])
    await symlink(join(modules, name), join(app, 'node_modules', name), 'junction')
}

const npm = (args: readonly string[], cwd: string) =>
  run('npm', [...args], { cwd, shell: process.platform === 'win32' })

async function pack(source: string, into: string): Promise<{ tarball: string; files: readonly string[] }> {
  const options = ['--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', into]
  const { stdout } = await npm(['pack', ...options, source], into)
  type Packed = { readonly filename: string; readonly files: readonly { readonly path: string }[] }
  const [packed] = Object.values(JSON.parse(stdout)) as Packed[]
  if (packed === undefined) throw new Error(`npm pack listed no package: ${stdout}`)
  return { tarball: join(into, packed.filename), files: packed.files.map(({ path }) => path) }
}

async function packagingProblems(tarball: string): Promise<readonly string[]> {
  const data = new Uint8Array(await readFile(tarball))
  const { messages, pkg } = await publint({ pack: { tarball: data.buffer }, strict: true })
  const types = await checkPackage(createPackageFromTarballData(data))
  const wrong =
    types.types === false
      ? ['the package has no types']
      : types.problems.filter(concernsEsm).map((problem) => JSON.stringify(problem))
  return [...messages.map((message) => formatMessage(message, pkg) ?? message.code), ...wrong]
}

/** The packages are ESM only: resolution of the time before `exports`, and the types of `require`, do not concern them. */
function concernsEsm(problem: Problem): boolean {
  if (problem.kind === 'CJSResolvesToESM') return false
  return !('resolutionKind' in problem && problem.resolutionKind === 'node10')
}

/** The first Node.js in PATH outside of `node_modules`, as the one of a user. */
function systemNode(): string {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((each) => !each.includes('node_modules'))
  return folders.map((each) => join(each, 'node')).find((file) => existsSync(file)) ?? process.execPath
}
