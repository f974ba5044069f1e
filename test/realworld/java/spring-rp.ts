import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cached } from '../../../deploy/kafka/cache.ts'
import { freePort } from '../../../deploy/kafka/ports.ts'
import type { Idp } from '../idp.ts'
import { openPages, type RecipeRp, recipe } from '../recipes/recipe.ts'
import { serve } from '../serve.ts'
import { build, JVM_OPTIONS } from './java.ts'

const SOURCES = join(import.meta.dirname, 'spring')
const PAGE = 'docs/rp/spring.md'

/** A Spring Boot application, compiled against one version, with the security configuration of docs/rp/spring.md. */
export interface SpringApp {
  /** The entries of the class path. */
  readonly classPath: readonly string[]
  remove(): Promise<void>
}

/** Compiles the application. The jars are fetched once per version and kept outside the clone. */
export async function compileSpring(version: string): Promise<SpringApp> {
  const jars = await cached(`spring-boot-${version}`, async (folder) => {
    process.stderr.write(`fetching Spring Boot ${version} with Maven (about 30 MB, once)\n`)
    const pom = join(SOURCES, 'pom.xml')
    const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies'
    const properties = [`-Dspring-boot.version=${version}`, `-DoutputDirectory=${folder}`]
    await build('mvn', ['-B', '-f', pom, goal, ...properties])
  })
  const folder = await mkdtemp(join(tmpdir(), 'curfew-spring-'))
  const classPath = [join(folder, 'classes'), join(jars, '*')]
  await cp(join(SOURCES, 'App.java'), join(folder, 'App.java'))
  await writeFile(join(folder, 'SecurityConfiguration.java'), recipe(PAGE, 'java', {}))
  const sources = ['App.java', 'SecurityConfiguration.java'].map((name) => join(folder, name))
  await build('javac', ['-parameters', '-d', join(folder, 'classes'), '-cp', classPath.join(':'), ...sources])
  return { classPath, remove: () => rm(folder, { recursive: true, force: true }) }
}

export interface SpringRpOptions {
  readonly algorithm?: 'RS256' | 'ES256'
  /** More arguments for Spring Boot, such as `--server.servlet.session.cookie.name=shop`. */
  readonly args?: readonly string[]
}

export async function openSpringRp(
  { classPath }: SpringApp,
  idp: Idp,
  { algorithm = 'RS256', args = [] }: SpringRpOptions = {},
): Promise<RecipeRp> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const logoutUri = `${url}/logout/connect/back-channel/idp`
  const { client_id: clientId, client_secret: clientSecret } = await idp.register({
    client_name: 'spring',
    redirect_uris: [`${url}/login/oauth2/code/idp`],
    backchannel_logout_uri: logoutUri,
    id_token_signed_response_alg: algorithm,
  })
  const folder = await mkdtemp(join(tmpdir(), 'curfew-spring-rp-'))
  const names = { 'https://idp.example': idp.iss, 'web-shop': clientId }
  await writeFile(join(folder, 'application.yml'), recipe(PAGE, 'yaml', names))
  const own = [`--server.port=${port}`, '--server.address=127.0.0.1', `--shop.algorithm=${algorithm}`]
  const served = await serve(
    'java',
    [...JVM_OPTIONS, '-cp', classPath.join(':'), 'shop.App', ...own, ...args],
    { url, cwd: folder, env: { CLIENT_SECRET: clientSecret } },
  )
  return {
    clientId,
    logoutUri,
    get log() {
      return served.log
    },
    ...openPages(idp, url, served),
    async close() {
      await served.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
