import type { Client } from '@curfew/client'
import { clientIdIn, type Imported } from '@curfew/contract'
import { importClients, importText, readClients } from '../rp-import.ts'
import { callsOf, realmOf } from './calls.ts'
import {
  type Direction,
  findRelay,
  planOfDocuments,
  planOfParties,
  registeredParties,
  templateOf,
} from './plan.ts'
import { planJson, planText } from './report.ts'

/**
 * `rp import --relay` and `--restore`: shows what to set at the IdP. `relay` imports the clients first.
 *
 * @param input the clients; null: all registered clients. @returns the exit status.
 */
export async function repoint(
  client: Client,
  input: string | null,
  how: {
    readonly issuer: string
    readonly direction: Direction
    readonly dryRun: boolean
    readonly json: boolean
    readonly url: string | undefined
  },
): Promise<number> {
  const { issuer, direction, dryRun, json } = how
  const place = await findRelay(client, issuer, direction === 'relay' ? how.url : undefined)
  let done: Imported | null = null
  if (input !== null && direction === 'relay') {
    // An unknown relay is reported before anything is changed.
    templateOf(place)
    done = await importClients(client, input, { issuer, dryRun, json })
  }
  const { documents, realm } = input === null ? { documents: [], realm: null } : readClients(input)
  const only = input === null ? null : new Set(documents.flatMap((document) => clientIdIn(document) ?? []))
  const plan = dryRun
    ? planOfDocuments(documents, place)
    : planOfParties(await registeredParties(client, issuer, only), direction, place)
  const calls = callsOf(plan, realmOf(place.issuer?.iss ?? '') ?? realm)
  if (json) process.stdout.write(`${JSON.stringify({ ...done, relay: planJson(plan, calls) })}\n`)
  else {
    if (done !== null) process.stdout.write(`${importText(withoutUnreadable(done), issuer)}\n`)
    process.stdout.write(planText(plan, calls))
  }
  return 0
}

/** The plan lists the clients that the relay cannot take. */
function withoutUnreadable(done: Imported): Imported {
  return { ...done, notices: done.notices.filter(({ code }) => code !== 'relay_unreadable') }
}
