import { ApiError, type Client } from '@curfew/client'
import type { Imported, ImportFault } from '@curfew/contract'
import { answered } from '../calls/connect.ts'
import type { ClientFile } from '../client-file/read.ts'
import { UsageError } from '../terminal/arguments.ts'
import { createProgress } from '../terminal/progress.ts'
import { plain, table } from '../terminal/table.ts'

/** Size of a chunk of the request body, in bytes. */
const CHUNK = 64 * 1024
/** Number of clients that a notice names. --json has more. */
const IDS_SHOWN = 20

/** A fault with its place in the file. */
interface FileFault {
  /** The line of the JSON value in a file of several values; null if the file is one value. */
  readonly line: number | null
  readonly where: string
  /** The client by its id, or by its name if it has no id. */
  readonly client: string
  readonly detail: string
}

/** The result of an import, with the places of faults in the file. */
export type FileImported = Omit<Imported, 'skipped'> & {
  readonly skipped: Omit<Imported['skipped'], 'faults'> & { readonly faults: readonly FileFault[] }
}

/**
 * Imports the clients of a file, and shows the progress.
 *
 * @throws {UsageError} if there are faults, after reporting them. Then nothing was changed.
 */
export async function importClients(
  client: Client,
  file: ClientFile,
  {
    issuer,
    dryRun,
    skipInvalid,
    json,
  }: { issuer: string; dryRun: boolean; skipInvalid: boolean; json: boolean },
): Promise<FileImported> {
  for (const remark of file.remarks) process.stderr.write(`${remark}\n`)
  const bytes = new TextEncoder().encode(file.ndjson)
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
    const done = await answered(client.importRelyingParties(issuer, stream, { dryRun, skipInvalid }))
    progress.end()
    const faults = done.skipped.faults.map((fault) => inFile(fault, file))
    return { ...done, skipped: { ...done.skipped, faults } }
  } catch (error) {
    progress.end()
    const { cause } = Object(error) as { readonly cause?: unknown }
    const problem = cause instanceof ApiError ? cause.problem : null
    const { faults, faults_left_out: leftOut = 0 } = (problem ?? {}) as {
      faults?: readonly ImportFault[]
      faults_left_out?: number
    }
    if (problem === null || faults === undefined) throw error
    const found = faults.map((fault) => inFile(fault, file))
    process.stdout.write(
      json ? `${JSON.stringify({ ...problem, faults: found })}\n` : faultTable(found, leftOut),
    )
    const clients = new Set(faults.map(({ line }) => line)).size
    const total = file.ndjson.split('\n').length - 1
    const all = leftOut === 0 ? share(clients, total, 'faults') : 'Clients have faults'
    throw new UsageError(
      `${all}. Nothing was changed. Correct them, or import the other clients with --skip-invalid.`,
      { cause: error },
    )
  }
}

/** The result of an import for a person. */
export function importText(done: FileImported, issuer: string): string {
  const { dry_run: dryRun, total, created, changed, unchanged, notices, skipped, endpoints } = done
  const [verb, change, leave] = dryRun
    ? ['It would create', 'change', 'leave']
    : ['Created', 'changed', 'left']
  const counts = `${counted(total, 'client')} at ${issuer}. ${verb} ${created}, ${change} ${changed}, and ${leave} ${unchanged} unchanged.\n`
  const named = (detail: string, kind: string, names: readonly string[], all: number) =>
    `${plain(`${detail} ${kind}: ${names.slice(0, IDS_SHOWN).join(', ')}`)}${all > IDS_SHOWN ? ', …' : ''}\n`
  const notes = notices.map(({ detail, total: all, client_ids: ids }) => named(detail, 'Clients', ids, all))
  const passedOver = done.passed_over.map(({ detail, total: all, names }) =>
    named(detail, 'Names', names, all),
  )
  const without =
    skipped.total === 0
      ? ''
      : `Skipped ${counted(skipped.total, 'client')} with faults:\n${faultTable(skipped.faults, skipped.faults_left_out)}`
  const channels = Object.entries(endpoints.channels).map(([channel, count]) => `${count} ${channel}`)
  const byChannel = channels.length === 0 ? '' : `: ${channels.join(', ')}`
  return [
    ...[counts, ...notes, ...passedOver, without],
    `${share(endpoints.clients, total, 'an endpoint')}${byChannel}.\n`,
  ].join('')
}

function counted(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`
}

function share(clients: number, total: number, object: string): string {
  return `${clients} of ${counted(total, 'client')} ${clients === 1 || total === 1 ? 'has' : 'have'} ${object}`
}

function faultTable(faults: readonly FileFault[], leftOut: number): string {
  const rows = faults.map(({ client, where, detail }) => [client, where, detail])
  return `${table([['CLIENT', 'WHERE', 'WHAT'], ...rows])}${leftOut === 0 ? '' : `… and ${leftOut} more.\n`}`
}

function inFile({ line, client_id, pointer, detail }: ImportFault, file: ClientFile): FileFault {
  const [, first] = /^is in line (\d+) already$/.exec(detail) ?? []
  return {
    ...file.placeOf(line, pointer),
    client: client_id ?? file.nameOf(line),
    detail:
      first === undefined ? detail : `is the client of ${file.placeOf(Number(first), '').where} already`,
  }
}

function kib(bytes: number): string {
  return Math.ceil(bytes / 1_024).toLocaleString('en')
}
