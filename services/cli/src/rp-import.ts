import { ApiError, type Client } from '@curfew/client'
import type { Imported, ImportFault } from '@curfew/contract'
import { UsageError } from './arguments.ts'
import { answered } from './connect.ts'
import { createProgress } from './progress.ts'
import { plain, table } from './table.ts'

/** Size of a chunk of the request body, in bytes. */
const CHUNK = 64 * 1024
/** Number of clients that a notice names. --json has more. */
const IDS_SHOWN = 20

/**
 * Imports clients, and shows the progress. @param input NDJSON, a JSON list, one client, or the export of a Keycloak realm.
 *
 * @throws {UsageError} if there are faults, after reporting them. Then nothing was changed.
 */
export async function importClients(
  client: Client,
  input: string,
  { issuer, dryRun, json }: { issuer: string; dryRun: boolean; json: boolean },
): Promise<Imported> {
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
    return done
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

/** The result of an import for a person. */
export function importText(
  { dry_run: dryRun, total, created, changed, unchanged, notices }: Imported,
  issuer: string,
): string {
  const [verb, change, leave] = dryRun
    ? ['It would create', 'change', 'leave']
    : ['Created', 'changed', 'left']
  const counts = `${total} clients at ${issuer}. ${verb} ${created}, ${change} ${changed}, and ${leave} ${unchanged} unchanged.\n`
  const notes = notices.map(({ detail, total: all, client_ids: ids }) => {
    const shown = ids.slice(0, IDS_SHOWN).join(', ')
    return `${plain(`${detail} ${shown}`)}${all > IDS_SHOWN ? ', …' : ''}\n`
  })
  return counts + notes.join('')
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
  const list = listOf(parsed(input))
  return list === null ? input : list.map((client) => `${JSON.stringify(client)}\n`).join('')
}

/** The clients of an input that was imported, and the realm of Keycloak if the input is its export. */
export function readClients(input: string): {
  readonly documents: readonly Readonly<Record<string, unknown>>[]
  readonly realm: string | null
} {
  const whole = parsed(input)
  const { realm } = Object(whole) as { readonly realm?: unknown }
  const list = listOf(whole) ?? input.split('\n').flatMap((line) => parsed(line) ?? [])
  return {
    documents: list.filter((client) => typeof client === 'object' && client !== null) as Record<
      string,
      unknown
    >[],
    realm: typeof realm === 'string' ? realm : null,
  }
}

/** The clients of one JSON text; null if there is none. */
function listOf(whole: unknown): readonly unknown[] | null {
  if (whole === undefined) return null
  const { clients } = Object(whole) as { readonly clients?: unknown }
  return Array.isArray(whole) ? whole : Array.isArray(clients) ? clients : [whole]
}

/** A JSON text, parsed; undefined if it is not one. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function kib(bytes: number): string {
  return Math.ceil(bytes / 1_024).toLocaleString('en')
}
