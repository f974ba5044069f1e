import type { Client } from '@curfew/client'
import type { AuditedReceipt } from '@curfew/contract'
import { type Checkpoint, createPartialTree, leafHash, parseCheckpointText, parseNote } from '@curfew/domain'
import { readLogKey, sha256, type TrustedLogKey, verifyCheckpoint } from '@curfew/tokens'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group, text } from '../terminal/arguments.ts'
import { readCheckpoint, readKey, writeText } from '../terminal/files.ts'
import { createProgress, type Progress } from '../terminal/progress.ts'
import { plain } from '../terminal/table.ts'

const CHECKPOINT = {
  out: text('FILE', 'the file to write (default: standard output)'),
  ...CONNECTION_OPTIONS,
} as const
const VERIFY = {
  checkpoint: text('FILE', 'an older checkpoint: the receipt log must have grown from it'),
  'log-key': text('FILE', 'the trusted key'),
  ...CONNECTION_OPTIONS,
} as const

export const log = group('the log of receipts', {
  checkpoint: command(
    {
      about: 'fetch the signed checkpoint of the receipt log, to keep for later checks',
      options: CHECKPOINT,
    },
    checkpoint,
  ),
  verify: command(
    {
      about: 'recompute the receipt log, and compare the stored receipts and the ledger with it',
      options: VERIFY,
      notes: 'Exit status 0: nothing was altered.',
    },
    verify,
  ),
})

const PAGE = 500
/** Greatest number of faults that are printed. */
const FAULTS_MAX = 100

async function checkpoint({ values }: Given<typeof CHECKPOINT>): Promise<number> {
  const note = await answered(connect(values).getCheckpoint())
  await writeText(values.out, values.json === true ? `${JSON.stringify({ checkpoint: note })}\n` : note)
  return 0
}

/** The result of an audit of the whole receipt log. */
interface Audit {
  readonly origin: string
  readonly entries: number
  readonly receipts: Record<AuditedReceipt['receipt'], number>
  readonly ledger: Record<AuditedReceipt['ledger'], number>
  readonly faults: string[]
}

/** Recomputes the whole receipt log and compares the ledger with it. Exit status 1 if anything was altered. */
async function verify({ values }: Given<typeof VERIFY>): Promise<number> {
  const client = connect(values)
  const given = await readKey(values['log-key'])
  const key = given ?? (await readLogKey(JSON.stringify(await answered(client.getLogKeys()))))
  if (key === null)
    throw new CallFailed('Curfew has no key of the receipt log.', { passing: false, cause: undefined })
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
  if (head === null) faults.push(`The checkpoint is not signed by key ${key.kid} for its receipt log.`)
  if (older !== null && kept === null) faults.push('The given checkpoint is not signed by this key.')
  if (kept !== null && kept.origin !== claimed.origin)
    faults.push('The given checkpoint is of another receipt log.')
  if (kept !== null && kept.size > claimed.size)
    faults.push(`The receipt log has ${claimed.size} entries, but had ${kept.size} at the given checkpoint.`)
  const tree = createPartialTree(sha256)
  const compareRoot = (of: Checkpoint, name: string) => {
    if (toBase64(tree.root()) !== of.root)
      faults.push(`The entries do not match ${name}: the root of the tree differs.`)
  }
  if (kept?.size === 0) compareRoot(kept, 'the given checkpoint')
  for (let at = 0; at < claimed.size; ) {
    const { items } = await answered(client.auditLog({ start: at, limit: Math.min(PAGE, claimed.size - at) }))
    if (items.length === 0) {
      faults.push(`The receipt log ends after ${at} entries, but its checkpoint has ${claimed.size}.`)
      break
    }
    for (const item of items) {
      const hash = leafHash(Buffer.from(item.digest, 'base64'), sha256)
      if (item.index !== at || toBase64(hash) !== item.leaf_hash)
        faults.push(`Entry ${at} differs from its leaf in the tree.`)
      tree.add(hash)
      at += 1
      if (kept?.size === at) compareRoot(kept, 'the given checkpoint')
      tally(audit, item)
    }
    progress.show(at, claimed.size, `${at} of ${claimed.size} entries, ${counted(faults)}`)
  }
  compareRoot(claimed, 'the present checkpoint')
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
    throw new CallFailed('The answer of Curfew is not a checkpoint.', { passing: false, cause: undefined })
  return found
}

function inWords(
  { origin, entries, receipts, ledger, faults }: Audit,
  key: TrustedLogKey,
  pinned: boolean,
): string {
  const shown = faults.slice(0, FAULTS_MAX).map((fault) => `${plain(fault)}\n`)
  const more = faults.length > FAULTS_MAX ? `… and ${faults.length - FAULTS_MAX} more.\n` : ''
  const keyNote = pinned
    ? ''
    : `The key ${key.kid} is from Curfew itself. Give --log-key to use a key that you trust.\n`
  const counts = [
    `${plain(origin)}: ${entries} entries.`,
    `Receipts: ${receipts.intact} intact, ${receipts.altered} altered, ${receipts.erased} erased, ${receipts.gone} not kept any more.`,
    `Ledger: ${ledger.agrees} agree, ${ledger.contradicts} contradict, ${ledger.outdated} outdated by a newer receipt, ${ledger.gone} not kept any more.`,
  ]
  const verdict = faults.length === 0 ? 'Nothing was altered.' : `${counted(faults)}: something was altered.`
  return `${shown.join('')}${more}${counts.join('\n')}\n${keyNote}${verdict}\n`
}

function counted(faults: readonly string[]): string {
  return faults.length === 1 ? '1 fault' : `${faults.length} faults`
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
