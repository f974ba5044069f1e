import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { freePort } from '../../../deploy/server/ports.ts'
import { end, hasEnded, run } from '../../../deploy/server/process.ts'
import { eventually } from '../../support/curfew.ts'
import type { PlainIdp, RegisteredClient } from '../idp.ts'
import { type Listener, listen } from '../listener.ts'

const MIGRATE_TIMEOUT_MS = 60_000

/** The answer of Hydra's admin API to a logout request. */
export interface LogoutRequest {
  readonly challenge: string
  readonly subject: string
  readonly sid: string
  /** The client that asked for the logout, if one did. */
  readonly client?: { readonly client_id: string }
}

export interface Hydra extends PlainIdp {
  readonly adminUrl: string
  /** Calls the admin API. @throws {Error} with the answer unless it is a success. */
  admin<Answer>(method: string, path: string, body?: unknown): Promise<Answer>
}

export interface HydraOptions {
  readonly binary: string
  /** Whether the login app asks Hydra to remember logins. Default true. */
  readonly remember?: (user: string) => boolean
  /** The logout page calls this before it accepts a logout. */
  readonly onLogout?: (request: LogoutRequest) => Promise<void>
}

/** The key set of Hydra that signs ID tokens and logout tokens. */
const SIGNING_KEYS = 'hydra.openid.id-token'
/** A key set that Hydra publishes beside its own. */
export const PUBLISHED_KEYS = 'curfew'

/** Ory Hydra in a process of its own with its data in SQLite, and the app for login, consent and logout that it needs. */
export async function openHydra(options: HydraOptions): Promise<Hydra> {
  const app = await listen()
  const folder = await mkdtemp(join(tmpdir(), 'curfew-hydra-'))
  const { iss, adminUrl, config } = await writeConfiguration(folder, app)
  const admin = createAdmin(adminUrl)
  serveApp(app, admin, options)
  const migrate = ['migrate', 'sql', 'up', '--read-from-env', '--yes', '--config', config]
  const migrated = await run(options.binary, migrate, { timeoutMs: MIGRATE_TIMEOUT_MS })
  if (migrated.code !== 0) throw new Error(`Hydra could not make its tables: ${migrated.output}`)

  const lost: string[] = []
  const start = async () => {
    const child = startHydra(options.binary, config, (line) => {
      if (line.includes('Unable to execute OpenID Connect Back-Channel Logout'))
        lost.push(/client_id=(\S+)/.exec(line)?.[1] ?? line)
    })
    await untilReady(child, () => admin('GET', '/health/ready'))
    return child
  }
  let running = await start()
  const close = async () => {
    await end(running, 'SIGKILL')
    await app.close()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    for (const set of [SIGNING_KEYS, PUBLISHED_KEYS, 'hydra.jwt.access-token']) await putKey(admin, set)
  } catch (error) {
    await close()
    throw error
  }

  return {
    iss,
    lost,
    adminUrl,
    admin,
    ...createClients(admin),
    async privateKeys() {
      const set = await admin<{ readonly keys: readonly Record<string, unknown>[] }>(
        'GET',
        `/admin/keys/${SIGNING_KEYS}`,
      )
      return set.keys
    },
    async logIn(browser, page, user) {
      let at = page
      while (at.url.startsWith(`${app.url}/login`)) at = await browser.submit(at, { login: user })
      return at
    },
    logOut: (browser) => browser.open(`${iss}/oauth2/sessions/logout`),
    async restart() {
      await end(running, 'SIGKILL')
      running = await start()
    },
    close,
  }
}

/** Writes the configuration of a Hydra with its data in `folder`. @returns its path, and the URLs that it sets. */
async function writeConfiguration(folder: string, app: Listener) {
  const [publicPort, adminPort] = [await freePort(), await freePort()]
  const iss = `http://127.0.0.1:${publicPort}`
  const config = join(folder, 'hydra.json')
  // JSON is YAML, which Hydra reads.
  await writeFile(
    config,
    JSON.stringify({
      dsn: `sqlite://${folder}/data?_fk=true&mode=rwc`,
      serve: {
        public: { host: '127.0.0.1', port: publicPort },
        admin: { host: '127.0.0.1', port: adminPort },
      },
      urls: {
        self: { issuer: iss },
        login: `${app.url}/login`,
        consent: `${app.url}/consent`,
        logout: `${app.url}/logout`,
        post_logout_redirect: `${app.url}/bye`,
      },
      webfinger: { jwks: { broadcast_keys: [SIGNING_KEYS, PUBLISHED_KEYS] } },
      secrets: { system: ['a secret of the test'] },
    }),
  )
  return { iss, adminUrl: `http://127.0.0.1:${adminPort}`, config }
}

type Admin = Hydra['admin']

/** Without a key in a set, Hydra generates one of 4,096 bits when the set is first asked for. RPs time out meanwhile. */
async function putKey(admin: Admin, set: string): Promise<void> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  const key = { ...privateKey.export({ format: 'jwk' }), kid: `key of ${set}`, alg: 'RS256', use: 'sig' }
  await admin('PUT', `/admin/keys/${set}`, { keys: [key] })
}

function createAdmin(url: string): Admin {
  return async <Answer>(method: string, path: string, body?: unknown) => {
    const response = await fetch(`${url}${path}`, {
      method,
      ...(body !== undefined && {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return (text === '' ? null : JSON.parse(text)) as Answer
  }
}

function createClients(admin: Admin): Pick<PlainIdp, 'register' | 'repoint'> {
  return {
    register: (metadata) =>
      admin<RegisteredClient>('POST', '/admin/clients', {
        scope: 'openid',
        grant_types: ['authorization_code'],
        response_types: ['code'],
        ...metadata,
      }),
    async repoint(clientId, backchannelLogoutUri) {
      await admin('PATCH', `/admin/clients/${clientId}`, [
        { op: 'replace', path: '/backchannel_logout_uri', value: backchannelLogoutUri },
      ])
    },
  }
}

/** The app that Hydra needs: a login form for any user, a consent page and a logout page that accept at once. */
function serveApp(app: Listener, admin: Admin, { remember = () => true, onLogout }: HydraOptions): void {
  const accept = async (kind: string, challenge: string, body: object) => {
    const path = `/admin/oauth2/auth/requests/${kind}/accept?${kind}_challenge=${encodeURIComponent(challenge)}`
    return (await admin<{ readonly redirect_to: string }>('PUT', path, body)).redirect_to
  }
  const pages: Readonly<Record<string, (query: URLSearchParams) => Promise<string>>> = {
    '/login': async (query) => {
      const challenge = query.get('login_challenge') ?? ''
      const subject = query.get('login')
      if (subject === null) {
        const hidden = `<input type="hidden" name="login_challenge" value="${challenge}">`
        return `<form method="post" action="${app.url}/login">${hidden}<input name="login"></form>`
      }
      return accept('login', challenge, { subject, remember: remember(subject), remember_for: 600 })
    },
    '/consent': (query) =>
      accept('consent', query.get('consent_challenge') ?? '', { grant_scope: ['openid'] }),
    '/logout': async (query) => {
      const challenge = query.get('logout_challenge') ?? ''
      const path = `/admin/oauth2/auth/requests/logout?logout_challenge=${challenge}`
      await onLogout?.({ challenge, ...(await admin<Omit<LogoutRequest, 'challenge'>>('GET', path)) })
      return accept('logout', challenge, {})
    },
    '/bye': async () => 'You are logged out.',
  }
  app.serve(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', app.url)
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const form = new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
    try {
      const answer = (await pages[pathname]?.(new URLSearchParams([...searchParams, ...form]))) ?? 'no page'
      if (URL.canParse(answer)) response.writeHead(302, { location: answer }).end()
      else response.writeHead(200, { 'content-type': 'text/html' }).end(answer)
    } catch (error) {
      response.writeHead(500).end(String(error))
    }
  })
}

/** Starts Hydra. `onLine` gets each line of its log. */
function startHydra(binary: string, config: string, onLine: (line: string) => void): ChildProcess {
  const child = spawn(binary, ['serve', 'all', '--dev', '--sqa-opt-out', '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  // A run that is interrupted closes nothing, and Hydra would outlive it.
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  child.once('exit', () => process.removeListener('exit', endWithUs))
  createInterface({ input: child.stderr }).on('line', onLine)
  return child
}

async function untilReady(child: ChildProcess, check: () => Promise<unknown>): Promise<void> {
  await eventually(async () => {
    if (!hasEnded(child)) return check()
    return undefined
  })
  if (hasEnded(child))
    throw new Error(`Hydra ended with ${child.signalCode ?? child.exitCode} before it served`)
}
