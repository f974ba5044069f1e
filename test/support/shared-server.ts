import { once } from 'node:events'
import { createServer, get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { stopped } from './end-of-run.ts'

/** The server is not available. One sentence for each place that was searched, or for each thing that is missing. */
export interface NoServer {
  readonly how: 'none'
  readonly lookedFor: readonly string[]
}

interface OpenedServer {
  readonly how: string
  stop(): Promise<void>
}

export interface ShareOptions<Opened extends OpenedServer> {
  /** The variable by which test workers inherit the address of the process that starts the server. */
  readonly variable: string
  open(): Promise<Opened | NoServer>
}

/**
 * One server for a whole run of Vitest. It starts when the first test asks for it, so that runs without such a test do not wait
 * for it.
 */
export interface SharedServer<Opened extends OpenedServer> {
  /** Vitest's global setup. @returns the teardown. */
  setup(): Promise<() => Promise<void>>
  /** The description of the server, for a worker. @throws {Error} if the server does not start. */
  ask(): Promise<Omit<Opened, 'stop'> | NoServer>
}

export function shareServer<Opened extends OpenedServer>({
  variable,
  open,
}: ShareOptions<Opened>): SharedServer<Opened> {
  return {
    async setup() {
      let opening: Promise<Opened | NoServer> | null = null
      const server = createServer(async (_request, response) => {
        opening ??= open()
        try {
          response.end(JSON.stringify(await opening))
        } catch (error) {
          response.statusCode = 500
          response.end(error instanceof Error ? error.message : String(error))
        }
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      process.env[variable] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      return async () => {
        server.close()
        server.closeAllConnections()
        const opened = await opening
        if (opened !== null && 'stop' in opened) await stopped(variable, opened.stop())
      }
    },
    async ask() {
      const address = process.env[variable]
      if (address === undefined) throw new Error(`no global setup of Vitest has set ${variable}`)
      // Without a timeout, unlike fetch: the first start may download the server.
      const [response] = (await once(get(address), 'response')) as [IncomingMessage]
      const body = await text(response)
      if (response.statusCode !== 200) throw new Error(body)
      return JSON.parse(body) as Omit<Opened, 'stop'> | NoServer
    },
  }
}

/**
 * Says that tests are skipped because a server is missing, on standard error.
 *
 * @returns the reason, in one line. @throws {Error} if `CI` is `true`: in CI no test may be skipped.
 */
export function skipWithout(server: string, { lookedFor }: NoServer): string {
  const missing = `no ${server}: ${lookedFor.join(' ')}`
  if (process.env.CI === 'true') throw new Error(missing)
  process.stderr.write(`\nSKIPPED, ${missing}\n\n`)
  return missing
}

/** Defines a suite that needs a server, or a skipped suite with the reason in its title. */
export async function describeUnless(
  missing: string | null,
  title: string,
  define: () => void,
): Promise<void> {
  // Vitest cannot be imported by a global setup, which imports this file.
  const { describe, it } = await import('vitest')
  if (missing === null) describe(title, define)
  else describe.skip(`${title} (${missing})`, () => it('needs the server', () => undefined))
}
