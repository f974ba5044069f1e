import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cached } from '../../../deploy/kafka/cache.ts'
import { freePort } from '../../../deploy/kafka/ports.ts'
import type { Idp } from '../idp.ts'
import { openPages, type RecipeRp, recipe } from '../recipes/recipe.ts'
import { serve } from '../serve.ts'
import { build, JVM_OPTIONS } from './java.ts'

const SOURCES = join(import.meta.dirname, 'quarkus')
const PAGE = 'docs/rp/quarkus.md'
const PACKAGE = join('src', 'main', 'java', 'shop')

/** Builds the application. The result is kept outside the clone until a source changes. @returns its folder. */
export async function buildQuarkus(): Promise<string> {
  const sources = {
    'pom.xml': await readFile(join(SOURCES, 'pom.xml'), 'utf8'),
    [join(PACKAGE, 'Pages.java')]: await readFile(join(SOURCES, 'Pages.java'), 'utf8'),
    [join(PACKAGE, 'Logouts.java')]: recipe(PAGE, 'java', {}),
  }
  const digest = createHash('sha256').update(JSON.stringify(sources)).digest('hex').slice(0, 16)
  const folder = await cached(`quarkus-rp-${digest}`, async (folder) => {
    process.stderr.write('building a Quarkus application with Maven (fetches about 100 MB, once)\n')
    const project = join(folder, 'project')
    await mkdir(join(project, PACKAGE), { recursive: true })
    for (const [path, text] of Object.entries(sources)) await writeFile(join(project, path), text)
    await build('mvn', ['-B', '-f', join(project, 'pom.xml'), 'package', '-DskipTests'])
    await rename(join(project, 'target', 'quarkus-app'), join(folder, 'app'))
    await rm(project, { recursive: true })
  })
  return join(folder, 'app')
}

export interface QuarkusRpOptions {
  /** Whether the endpoint of Quarkus takes the logout tokens, and not the one of docs/rp/quarkus.md. Default false. */
  readonly ownEndpoint?: boolean
}

export async function openQuarkusRp(
  app: string,
  idp: Idp,
  { ownEndpoint = false }: QuarkusRpOptions = {},
): Promise<RecipeRp> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const logoutUri = `${url}/${ownEndpoint ? 'own' : 'back-channel-logout'}`
  const { client_id: clientId, client_secret: clientSecret } = await idp.register({
    client_name: 'quarkus',
    redirect_uris: [`${url}/sid`],
    backchannel_logout_uri: logoutUri,
    id_token_signed_response_alg: 'RS256',
  })
  const folder = await mkdtemp(join(tmpdir(), 'curfew-quarkus-'))
  await mkdir(join(folder, 'config'))
  const names = { 'https://idp.example': idp.iss, 'web-shop': clientId }
  await writeFile(join(folder, 'config', 'application.properties'), recipe(PAGE, 'properties', names))
  const properties = [`quarkus.http.port=${port}`, 'quarkus.http.host=127.0.0.1']
  const backChannel = 'quarkus.oidc.logout.backchannel'
  if (ownEndpoint) properties.push(`${backChannel}.path=/own`, `${backChannel}.logout-token-key=sid`)
  const args = [...JVM_OPTIONS, ...properties.map((property) => `-D${property}`)]
  const served = await serve('java', [...args, '-jar', join(app, 'quarkus-run.jar')], {
    url,
    cwd: folder,
    env: { CLIENT_SECRET: clientSecret },
  })
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
