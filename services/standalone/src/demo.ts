import { type Client, createClient } from '@curfew/client'
import type { LogoutEventStatus } from '@curfew/contract'
import { aborted, type Service, sleep } from '@curfew/runtime'
import { type DemoRp, openDemoRps } from './demo-rps.ts'
import { howToLookUp, howToPost } from './welcome.ts'

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

/** Three relying parties, an issuer and one logout, so that a newcomer sees the whole flow; then it waits for theirs. */
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
        // What somebody has set since is theirs.
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
        print(`  The demo posted one itself: subject alice at ${ISS}, three relying parties on loopback.\n\n`)
        const show = createTable(rps, print)
        const startedMs = performance.now()
        while (!stopping.aborted && performance.now() - startedMs < SHOW_MS_MAX) {
          const event = await client.getLogoutEvent(id, { wait: 0 }).catch(() => null)
          if (event !== null) show(event)
          if (event?.status === 'settled') break
          await sleep(POLL_MS, stopping)
        }
        if (stopping.aborted) return
        print(`\n  Now yours, as it can be pasted:\n\n${howToPost({ url, key, iss: ISS, sub: 'bob' })}`)
        print(`\n  and what became of it (ID: from the answer):\n\n${howToLookUp({ url, key })}`)
        print('\n  Ctrl-C stops everything, the database too.\n\n')
        await aborted(stopping)
      } catch (error) {
        // Asked to stop, our own API closes, and a call to it that comes too late fails.
        if (!stopping.aborted) throw error
      } finally {
        await Promise.all(rps.map((rp) => rp.close()))
      }
    },
  }
}

/** The name that the issuer has; without one, that of the README, so that its commands work beside the demo, if it is free. */
async function issuerName(client: Client): Promise<{ issuer: string; registered: boolean }> {
  const { items } = await client.listIssuers({ limit: 500 })
  const known = items.find(({ iss }) => iss === ISS)
  if (known !== undefined) return { issuer: known.name, registered: true }
  return { issuer: items.some(({ name }) => name === 'main') ? 'demo' : 'main', registered: false }
}

/** A table that fills as acknowledgements come in: redrawn on a terminal, and elsewhere printed once for each change. */
function createTable(
  rps: readonly DemoRp[],
  print: (text: string) => void,
): (event: LogoutEventStatus) => void {
  let drawn = ''
  return (event) => {
    const rows = rps.map(({ clientId, name, manner }) => {
      const delivery = event.deliveries.find((candidate) => candidate.client_id === clientId)
      const took = delivery?.elapsed_ms == null ? '' : `${delivery.elapsed_ms} ms`
      return [name, manner, delivery?.state ?? 'unplanned', String(delivery?.attempt_count ?? 0), took]
    })
    const table = format([['relying party', 'manner', 'state', 'attempts', 'after'], ...rows])
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
