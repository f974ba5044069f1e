import type { Client } from '@curfew/client'
import { clientIdIn } from '@curfew/contract'
import { isDisabledAtIdp } from '@curfew/domain'
import type { ClientFile } from '../client-file/read.ts'
import { type FileImported, importClients, importText } from '../registry/rp-import.ts'
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
 * @param file the clients; null: all registered clients. @returns the exit status.
 */
export async function repoint(
  client: Client,
  file: ClientFile | null,
  how: {
    readonly issuer: string
    readonly direction: Direction
    readonly dryRun: boolean
    readonly skipInvalid: boolean
    readonly json: boolean
    readonly url: string | undefined
  },
): Promise<number> {
  const { issuer, direction, dryRun, skipInvalid, json } = how
  const place = await findRelay(client, issuer, direction === 'relay' ? how.url : undefined)
  let done: FileImported | null = null
  if (file !== null && direction === 'relay') {
    // An unknown relay is reported before anything is changed.
    templateOf(place)
    done = await importClients(client, file, { issuer, dryRun, skipInvalid, json })
  }
  const documents = withoutSkipped(file?.documents ?? [], done)
  const only = file === null ? null : new Set(documents.flatMap((document) => clientIdIn(document) ?? []))
  const plan = dryRun
    ? planOfDocuments(documents, place)
    : planOfParties(await registeredParties(client, issuer, only), direction, place)
  const calls = callsOf(plan, realmOf(place.issuer?.iss ?? '') ?? file?.realm ?? null)
  if (json) process.stdout.write(`${JSON.stringify({ ...done, relay: planJson(plan, calls) })}\n`)
  else {
    if (done !== null) process.stdout.write(`${importText(withoutUnreadable(done), issuer)}\n`)
    process.stdout.write(planText(plan, calls))
  }
  return done !== null && done.skipped.total > 0 ? 1 : 0
}

/**
 * The clients that the import registers. A client that is passed over or skipped keeps its URL at the IdP: the relay would refuse its tokens, or deliver them
 * to the endpoint of an older registration.
 */
function withoutSkipped(
  documents: ClientFile['documents'],
  done: FileImported | null,
): ClientFile['documents'] {
  if (done === null) return documents
  const disabled = done.passed_over.filter(({ code }) => code.startsWith('disabled_'))
  const skipped = new Set([
    ...done.skipped.faults.map(({ client }) => client),
    ...disabled.flatMap(({ names }) => names),
  ])
  // The answer names at most 1,000 clients for each reason.
  const areNamed = disabled.every(({ names, total }) => names.length === total)
  return documents.filter(
    (document) => !skipped.has(clientIdIn(document) ?? '') && (areNamed || !isDisabledAtIdp(document)),
  )
}

/** The plan lists the clients that the relay cannot take. */
function withoutUnreadable(done: FileImported): FileImported {
  return { ...done, notices: done.notices.filter(({ code }) => code !== 'relay_unreadable') }
}
