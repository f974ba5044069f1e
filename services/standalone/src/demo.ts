import { type Client, createClient } from '@curfew/client'
import type { LogoutEventStatus } from '@curfew/contract'
import { aborted, type Service, sleep } from '@curfew/runtime'
import { type DemoRp, openDemoRps } from './demo-rps.ts'
import { howToLookUp, howToPost, howToShow } from './welcome.ts'

export interface DemoDeps {
  /** Resolves to our URL once the server listens. */
  readonly listening: Promise<string>
  /** A key for our own API. */
  readonly key: string
  readonly welcome: (url: string) => Promise<void>
  readonly print: (text: string) => void
}

const ISS = 'https://idp.example'
const POLL_MS = 100
const SHOW_MS_MAX = 60_000

/**
 * Creates the demo: three relying parties, an issuer and one logout show the whole flow. Afterwards it waits for logouts of the
 * user.
 */
export function createDemo({ listening, key, welcome, print }: DemoDeps): Service {
  return {
    name: 'demo',
    async run({ stopping, ready }) {
      ready()
      const url = await Promise.race([listening, aborted(stopping)])
      if (url === undefined) return
      const client = createClient({ url, key })
      const { issuer, registered } = await issuerName(client)
      const rps = await openDemoRps({ issuer: ISS, jwksUri: `${url}/issuers/${issuer}/jwks.json` })
      try {
        // A registered issuer keeps its settings: the user may have changed them.
        if (!registered) await client.putIssuer(issuer, { iss: ISS })
        for (const rp of rps) {
          await client.putRelyingParty(issuer, rp.clientId, {
            client_name: rp.name,
            backchannel_logout_uri: rp.uri,
            id_token_signed_response_alg: rp.algorithm,
            curfew: { allowed_networks: ['127.0.0.0/8'] },
          })
        }
        await welcome(url)
        const { id } = await client.postLogoutEvent({ iss: ISS, sub: 'alice', reason: 'user' })
        print(
          `  The demo has posted a logout of subject alice at ${ISS} to three relying parties on loopback.\n\n`,
        )
        const show = createTable(rps, print)
        const startedMs = performance.now()
        while (!stopping.aborted && performance.now() - startedMs < SHOW_MS_MAX) {
          const event = await client.getLogoutEvent(id, { wait: 0 }).catch(() => null)
          if (event !== null) show(event)
          if (event?.status === 'settled') break
          await sleep(POLL_MS, stopping)
        }
        if (stopping.aborted) return
        print(`\n  Post your own logout:\n\n${howToPost({ url, key, iss: ISS, sub: 'bob' })}`)
        print(
          `\n  Look up its outcome (replace ID with the id in the answer):\n\n${howToLookUp({ url, key })}`,
        )
        print(
          `\n  Look at the logout of alice again, in a second terminal in this folder:\n\n${howToShow({ url, key, id, issuer })}`,
        )
        print('\n  Ctrl-C stops everything, including the database.\n\n')
        await aborted(stopping)
      } catch (error) {
        // Our own API closes when the process stops, and a late call to it fails.
        if (!stopping.aborted) throw error
      } finally {
        await Promise.all(rps.map((rp) => rp.close()))
      }
    },
  }
}

/**
 * The name of the demo's issuer. An unregistered issuer gets the name in the README if it is free, so that the README's commands
 * work with the demo.
 */
async function issuerName(client: Client): Promise<{ issuer: string; registered: boolean }> {
  const { items } = await client.listIssuers({ limit: 500 })
  const known = items.find(({ iss }) => iss === ISS)
  if (known !== undefined) return { issuer: known.name, registered: true }
  return { issuer: items.some(({ name }) => name === 'main') ? 'demo' : 'main', registered: false }
}

/**
 * Creates a table that shows acknowledgements as they arrive. A terminal redraws it; other outputs get a copy for every change.
 */
function createTable(
  rps: readonly DemoRp[],
  print: (text: string) => void,
): (event: LogoutEventStatus) => void {
  let drawn = ''
  return (event) => {
    const rows = rps.map(({ clientId, name, behaviour }) => {
      const delivery = event.deliveries.find((candidate) => candidate.client_id === clientId)
      const took = delivery?.elapsed_ms == null ? '' : `${delivery.elapsed_ms} ms`
      return [name, behaviour, delivery?.state ?? 'unplanned', String(delivery?.attempt_count ?? 0), took]
    })
    const table = format([['relying party', 'behaviour', 'state', 'attempts', 'after'], ...rows])
    if (table === drawn) return
    const up = drawn !== '' && process.stdout.isTTY ? `\u001b[${drawn.split('\n').length - 1}A\u001b[J` : ''
    drawn = table
    print(up + table)
  }
}

function format(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd(),
  )
  return `${lines.map((line) => `    ${line}\n`).join('')}\n`
}
