// The checkpoint of a log (C2SP tlog-checkpoint) and the signed note around it (C2SP signed-note), both as text. Bytes are in
// base64, because signing and verifying happen in libs/tokens.

/** The size and root hash of a log at one point. */
export interface Checkpoint {
  /** The name of the log: a URL without its scheme. */
  readonly origin: string
  /** The number of leaves in the tree. */
  readonly size: number
  /** The root hash of the tree, in base64. */
  readonly root: string
}

/** One signature line of a note. */
export interface NoteSignature {
  /** The name of the key. For a log, it is the origin. */
  readonly name: string
  /** The key id of four bytes and the signature after it, in base64. */
  readonly signature: string
}

/** A text with its signatures. */
export interface SignedNote {
  /** The signed text, which ends with a line feed. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

/** A SHA-256 in canonical base64. */
const HASH = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/
/** A signature line with at least four bytes, in padded base64. */
const SIGNATURE_LINE =
  /^\u2014 ([^\s+]+) ((?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==))$/u
/** Far more than a note with many witnesses needs. */
const NOTE_CHARACTERS_MAX = 1_048_576

/** Whether `name` is a valid name of a log or a key: it has no spaces, no plus and no control characters. */
export function isLogName(name: string): boolean {
  return /^[^\s+\p{Cc}]{1,255}$/u.test(name)
}

/** The text of a checkpoint, for signing. */
export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root}\n`
}

/** Parses a checkpoint; null if `text` is none. Further lines are extensions, which Curfew ignores. */
export function parseCheckpointText(text: string): Checkpoint | null {
  const [origin = '', size = '', root = '', ...rest] = text.split('\n')
  const extensions = rest.slice(0, -1)
  const whole = rest.at(-1) === '' && !extensions.includes('')
  if (!whole || origin === '' || !/^(?:0|[1-9]\d{0,15})$/.test(size) || !HASH.test(root)) return null
  return Number.isSafeInteger(Number(size)) ? { origin, size: Number(size), root } : null
}

export function noteText({ text, signatures }: SignedNote): string {
  const lines = signatures.map(({ name, signature }) => `\u2014 ${name} ${signature}\n`)
  return `${text}\n${lines.join('')}`
}

/** Parses a signed note; null if `note` is none. It accepts signatures of any key, because a log may have unknown witnesses. */
export function parseNote(note: string): SignedNote | null {
  if (note.length > NOTE_CHARACTERS_MAX) return null
  // A note has no control characters except line feeds.
  if (Array.from(note).some((character) => character < ' ' && character !== '\n')) return null
  const end = note.lastIndexOf('\n\n')
  if (end < 0 || !note.endsWith('\n')) return null
  const lines = note.slice(end + 2, -1).split('\n')
  const signatures = lines.flatMap((line) => {
    const [, name, signature] = SIGNATURE_LINE.exec(line) ?? []
    return name === undefined || signature === undefined ? [] : [{ name, signature }]
  })
  return signatures.length === lines.length ? { text: note.slice(0, end + 1), signatures } : null
}
