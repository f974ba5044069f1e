import type { Client } from '@curfew/client'
import type { AuditedReceipt } from '@curfew/contract'
import { type Checkpoint, createGrowingTree, leafHash, parseCheckpointText, parseNote } from '@curfew/domain'
import { readLogKey, sha256, type TrustedLogKey, verifyCheckpoint } from '@curfew/tokens'
import { group, parse } from './arguments.ts'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from './connect.ts'
import { readCheckpoint, readKey, writeText } from './files.ts'
import { createProgress, type Progress } from './progress.ts'
import { plain } from './table.ts'

/** `curfew log checkpoint|verify`. */
export const log = group('log', { checkpoint, verify })

const PAGE = 500
/** Most faults that are told one by one. */
const FAULTS_MAX = 100

async function checkpoint(args: readonly string[]): Promise<number> {
  const options = { ...CONNECTION_OPTIONS, out: { type: 'string' }, json: { type: 'boolean' } } as const
  const { values } = parse(args, options)
  const note = await answered(connect(values).getCheckpoint())
  await writeText(values.out, values.json === true ? `${JSON.stringify({ checkpoint: note })}\n` : note)
  return 0
}

/** What an audit of the whole log came to. */
interface Audit {
  readonly origin: string
  readonly entries: number
  readonly receipts: Record<AuditedReceipt['receipt'], number>
  readonly ledger: Record<AuditedReceipt['ledger'], number>
  readonly faults: string[]
}

/** Recomputes the whole log, and holds the ledger against it. Exit status 1 where anything is not as it was. */
async function verify(args: readonly string[]): Promise<number> {
  const { values } = parse(args, {
    ...CONNECTION_OPTIONS,
    checkpoint: { type: 'string' },
    'log-key': { type: 'string' },
    json: { type: 'boolean' },
  })
  const client = connect(values)
  const given = await readKey(values['log-key'])
  const key = given ?? (await readLogKey(JSON.stringify(await answered(client.getLogKeys()))))
  if (key === null) throw new CallFailed('Curfew has no key of a log.', { passing: false, cause: undefined })
  const older = await readCheckpoint(values.checkpoint)
  const progress = createProgress(process.stderr)
  const audit = await auditAll(client, key, older?.note ?? null, progress)
  progress.end()
  const ok = audit.faults.length === 0
  process.stdout.write(
    values.json === true
      ? `${JSON.stringify({ ok, key: { kid: key.kid, pinned: given !== null }, ...audit })}\n`
      : inWords(audit, key, given !== null),
  )
  return ok ? 0 : 1
}

async function auditAll(
  client: Client,
  key: TrustedLogKey,
  older: string | null,
  progress: Progress,
): Promise<Audit> {
  const note = await answered(client.getCheckpoint())
  const head = verifyCheckpoint(note, key)
  const claimed = claimOf(note)
  const kept = older === null ? null : verifyCheckpoint(older, key)
  const audit: Audit = {
    origin: claimed.origin,
    entries: claimed.size,
    receipts: { intact: 0, altered: 0, erased: 0, gone: 0 },
    ledger: { agrees: 0, contradicts: 0, outdated: 0, gone: 0 },
    faults: [],
  }
  const { faults } = audit
  if (head === null) faults.push(`The checkpoint is not signed by key ${key.kid} in the name of its log.`)
  if (older !== null && kept === null)
    faults.push('The checkpoint that was kept is not one that this key has signed.')
  if (kept !== null && kept.origin !== claimed.origin)
    faults.push('The checkpoint that was kept is of another log.')
  if (kept !== null && kept.size > claimed.size)
    faults.push(`The log has ${claimed.size} entries, and had ${kept.size} already.`)
  const tree = createGrowingTree(sha256)
  const held = (of: Checkpoint, what: string) => {
    if (toBase64(tree.root()) !== of.root)
      faults.push(`The entries are not those of ${what}: the root is another.`)
  }
  if (kept?.size === 0) held(kept, 'the checkpoint that was kept')
  for (let at = 0; at < claimed.size; ) {
    const { items } = await answered(client.auditLog({ start: at, limit: Math.min(PAGE, claimed.size - at) }))
    if (items.length === 0) {
      faults.push(`The log ends after ${at} entries; its checkpoint says ${claimed.size}.`)
      break
    }
    for (const item of items) {
      const hash = leafHash(Buffer.from(item.digest, 'base64'), sha256)
      if (item.index !== at || toBase64(hash) !== item.leaf_hash)
        faults.push(`Entry ${at} is not the leaf in the tree.`)
      tree.add(hash)
      at += 1
      if (kept?.size === at) held(kept, 'the checkpoint that was kept')
      tally(audit, item)
    }
    progress.show(at, claimed.size, `${at} of ${claimed.size} entries, ${counted(faults)}`)
  }
  held(claimed, 'the checkpoint')
  return audit
}

function tally({ receipts, ledger, faults }: Audit, item: AuditedReceipt): void {
  receipts[item.receipt] += 1
  ledger[item.ledger] += 1
  const of = `Entry ${item.index}, event ${item.event_id}`
  if (item.receipt === 'altered') faults.push(`${of}: the stored receipt was altered.`)
  if (item.ledger === 'contradicts')
    faults.push(`${of}: the ledger was altered: ${item.differences.join('; ')}.`)
}

function claimOf(note: string): Checkpoint {
  const parsed = parseNote(note)
  const found = parsed && parseCheckpointText(parsed.text)
  if (found === null)
    throw new CallFailed('What Curfew gave is no checkpoint.', { passing: false, cause: undefined })
  return found
}

function inWords(
  { origin, entries, receipts, ledger, faults }: Audit,
  key: TrustedLogKey,
  pinned: boolean,
): string {
  const shown = faults.slice(0, FAULTS_MAX).map((fault) => `${plain(fault)}\n`)
  const more = faults.length > FAULTS_MAX ? `… and ${faults.length - FAULTS_MAX} more.\n` : ''
  const whose = pinned
    ? ''
    : `The key is the one that Curfew gave: ${key.kid}. Give --log-key to trust another.\n`
  const counts = [
    `${plain(origin)}: ${entries} entries.`,
    `Receipts: ${receipts.intact} intact, ${receipts.altered} altered, ${receipts.erased} erased, ${receipts.gone} not kept any more.`,
    `Ledger: ${ledger.agrees} agree, ${ledger.contradicts} contradict, ${ledger.outdated} outdated by a newer receipt, ${ledger.gone} not kept any more.`,
  ]
  const verdict = faults.length === 0 ? 'Nothing was altered.' : `${counted(faults)}: something was altered.`
  return `${shown.join('')}${more}${counts.join('\n')}\n${whose}${verdict}\n`
}

function counted(faults: readonly string[]): string {
  return faults.length === 1 ? '1 fault' : `${faults.length} faults`
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
