import { ApiError, type Client } from '@curfew/client'
import type { ImportFault } from '@curfew/contract'
import { UsageError } from './arguments.ts'
import { answered } from './connect.ts'
import { createProgress } from './progress.ts'
import { table } from './table.ts'

/** Size of a chunk of the request body, in bytes. */
const CHUNK = 64 * 1024

/**
 * Imports clients, shows the progress, and reports the result. @param input NDJSON, a JSON list, one client, or the export of a
 * Keycloak realm.
 *
 * @returns the exit status. @throws {UsageError} if there are faults, after reporting them. Then nothing was changed.
 */
export async function importClients(
  client: Client,
  input: string,
  { issuer, dryRun, json }: { issuer: string; dryRun: boolean; json: boolean },
): Promise<number> {
  const bytes = new TextEncoder().encode(toLines(input))
  const progress = createProgress(process.stderr)
  let sent = 0
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = bytes.subarray(sent, sent + CHUNK)
      sent += chunk.length
      progress.show(sent, bytes.length, `${kib(sent)} of ${kib(bytes.length)} KiB sent`)
      if (chunk.length > 0) controller.enqueue(chunk)
      if (sent === bytes.length) controller.close()
    },
  })
  try {
    const done = await answered(client.importRelyingParties(issuer, stream, { dryRun }))
    progress.end()
    const { total, created, changed, unchanged } = done
    const verb = dryRun ? 'It would create' : 'Created'
    process.stdout.write(
      json
        ? `${JSON.stringify(done)}\n`
        : `${total} clients at ${issuer}. ${verb} ${created}, ${dryRun ? 'change' : 'changed'} ${changed}, and ${dryRun ? 'leave' : 'left'} ${unchanged} unchanged.\n`,
    )
    return 0
  } catch (error) {
    progress.end()
    const { cause } = Object(error) as { readonly cause?: unknown }
    const problem = cause instanceof ApiError ? cause.problem : null
    const { faults, faults_left_out: leftOut = 0 } = (problem ?? {}) as {
      faults?: readonly ImportFault[]
      faults_left_out?: number
    }
    if (problem === null || faults === undefined) throw error
    process.stdout.write(json ? `${JSON.stringify(problem)}\n` : report(faults, leftOut))
    throw new UsageError(problem.detail ?? problem.title, { cause: error })
  }
}

function report(faults: readonly ImportFault[], leftOut: number): string {
  const rows = faults.map(({ line, client_id, pointer, detail }) => [line, client_id ?? '', pointer, detail])
  const more = leftOut === 0 ? '' : `… and ${leftOut} more.\n`
  return `${table([['LINE', 'CLIENT', 'WHERE', 'WHAT'], ...rows])}${more}`
}

/**
 * The input with one client for each line. Input that is not one JSON text is sent unchanged: it is NDJSON, or the server reports
 * its faults.
 */
function toLines(input: string): string {
  let whole: unknown
  try {
    whole = JSON.parse(input)
  } catch {
    return input
  }
  const { clients } = Object(whole) as { readonly clients?: unknown }
  const list = Array.isArray(whole) ? whole : Array.isArray(clients) ? clients : [whole]
  return list.map((client) => `${JSON.stringify(client)}\n`).join('')
}

function kib(bytes: number): string {
  return Math.ceil(bytes / 1_024).toLocaleString('en')
}
