import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RelyingPartySettings } from '@curfew/contract'
import { freePort } from '../../deploy/kafka/ports.ts'
import { end } from '../../deploy/kafka/process.ts'
import type { ApacheFiles } from './apache-files.ts'
import type { Browser } from './browser.ts'
import type { Idp } from './idp.ts'
import { recipe } from './recipes/recipe.ts'
import { untilServing } from './serve.ts'

/** A real RP: Apache that protects all of its pages with mod_auth_openidc. */
export interface ApacheRp {
  readonly clientId: string
  /** The URI that accepts logout tokens. */
  readonly logoutUri: string
  /** The log so far. */
  readonly log: string
  logIn(browser: Browser, user: string): Promise<void>
  /** The claims of the ID token of this browser's session, or null if the browser has no session. */
  claimsOf(browser: Browser): Promise<{ readonly sub: string; readonly sid: string } | null>
  close(): Promise<void>
}

export interface ApacheRpOptions {
  readonly files: ApacheFiles
  readonly algorithm?: 'RS256' | 'ES256'
  readonly settings?: RelyingPartySettings
}

export async function openApacheRp(
  idp: Idp,
  { files, algorithm = 'ES256', settings }: ApacheRpOptions,
): Promise<ApacheRp> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const callback = `${url}/callback`
  const logoutUri = `${callback}?logout=backchannel`
  const { client_id: clientId, client_secret: clientSecret } = await idp.register(
    {
      client_name: 'apache',
      redirect_uris: [callback],
      backchannel_logout_uri: logoutUri,
      id_token_signed_response_alg: algorithm,
    },
    settings,
  )

  const folder = await mkdtemp(join(tmpdir(), 'curfew-apache-'))
  // If the test runs as root, Apache serves as another user, which must be able to read this folder.
  await chmod(folder, 0o755)
  await mkdir(join(folder, 'pages'))
  await writeFile(join(folder, 'pages', 'index.html'), 'protected page\n')
  const root = process.getuid?.() === 0
  const modules = ['mpm_event', 'authn_core', 'authz_core', 'authz_user', 'dir', 'auth_openidc']
  const configuration = [
    `ServerRoot ${folder}`,
    'ServerName 127.0.0.1',
    `Listen 127.0.0.1:${port}`,
    `PidFile ${folder}/pid`,
    `DefaultRuntimeDir ${folder}`,
    `ErrorLog ${folder}/log`,
    'LogLevel warn auth_openidc:info',
    ...modules.map((name) => `LoadModule ${name}_module ${files.module(`mod_${name}.so`)}`),
    ...(root ? ['User www-data', 'Group www-data'] : []),
    `DocumentRoot ${folder}/pages`,
    'DirectoryIndex index.html',
    'OIDCInfoHook id_token',
    recipe('docs/rp/mod-auth-openidc.md', 'apache', {
      'https://idp.example': idp.iss,
      'https://wiki.example': url,
      'team-wiki': clientId,
      ES256: algorithm,
    }),
  ]
  await writeFile(join(folder, 'apache.conf'), `${configuration.join('\n')}\n`)

  const child = spawn(files.binary, ['-f', join(folder, 'apache.conf'), '-DFOREGROUND'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...files.env, CLIENT_SECRET: clientSecret, PASSPHRASE: 'a secret of the test' },
  })
  let complaints = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text
  })
  // A pipe to Node is a socket, which Apache cannot reopen as its log. So Apache logs to a file, and only early errors come here.
  const log = () =>
    complaints + (existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8') : '')
  const close = async () => {
    await end(child, 'SIGTERM')
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await untilServing(child, url, log)
  } catch (error) {
    await close()
    throw error
  }

  return {
    clientId,
    logoutUri,
    get log() {
      return log()
    },
    async logIn(browser, user) {
      const page = await idp.logIn(browser, await browser.open(`${url}/`), user)
      if (page.status !== 200 || page.body !== 'protected page\n')
        throw new Error(`${user} could not log in: ${page.url} ${page.status}\n${log()}`)
    },
    async claimsOf(browser) {
      const { status, body } = await browser.open(`${callback}?info=json`)
      if (status === 401) return null
      return (JSON.parse(body) as { readonly id_token: { readonly sub: string; readonly sid: string } })
        .id_token
    },
    close,
  }
}
