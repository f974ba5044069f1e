// What a log says of itself, signed: the checkpoint of C2SP tlog-checkpoint in the signed note of C2SP signed-note, both
// as text. Bytes are in base64 here, for signing and verifying are done elsewhere.

/** A log at one size. */
export interface Checkpoint {
  /** The log's name, a URL without its scheme. */
  readonly origin: string
  /** Leaves in its tree. */
  readonly size: number
  /** The tree's root hash, in base64. */
  readonly root: string
}

/** One signature line of a note. */
export interface NoteSignature {
  /** Of the key. A log's is its origin. */
  readonly name: string
  /** Four bytes that name the key and the signature after them, in base64. */
  readonly signature: string
}

/** A text, and who signed it. */
export interface SignedNote {
  /** Ends with a line feed. This is what is signed. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

/** A SHA-256 in base64, of which there is one way of writing only. */
const HASH = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/
/** Four bytes at least, in base64 that is padded. */
const SIGNATURE_LINE =
  /^\u2014 ([^\s+]+) ((?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==))$/u
/** More than a note of every witness in the world. */
const NOTE_CHARACTERS_MAX = 1_048_576

/** What may be the name of a log or a key: no spaces, no plus, no control characters. */
export function isLogName(name: string): boolean {
  return /^[^\s+\p{Cc}]{1,255}$/u.test(name)
}

/** The text of a checkpoint, to be signed. */
export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root}\n`
}

/** The checkpoint that `text` is; null when it is none. Lines that follow are extensions, and of no meaning to us. */
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

/** The note that `note` is; null when it is none. Who signed it is not looked into: witnesses that are not known are welcome. */
export function parseNote(note: string): SignedNote | null {
  if (note.length > NOTE_CHARACTERS_MAX) return null
  // What is below a space is no part of a note, but for the line feed.
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
