import { clientIdIn } from '@curfew/contract'
import { isWithoutOAuth, pointerTo, readClient } from '@curfew/domain'
import { UsageError } from '../terminal/arguments.ts'
import { withRealmDefaults } from './realm.ts'
import { valuesOf } from './values.ts'

type Metadata = Readonly<Record<string, unknown>>
type Path = readonly (string | number)[]

/** A file of clients that was read. */
export interface ClientFile {
  /** The clients, one in each line, for the import. */
  readonly ndjson: string
  readonly documents: readonly Metadata[]
  /** The realm, if the file is the export of Keycloak. */
  readonly realm: string | null
  /** Facts about the file that its reader should know. */
  readonly remarks: readonly string[]
  /** Where a place of the import is in the file. @param line of `ndjson`. */
  placeOf(line: number, pointer: string): { readonly line: number | null; readonly where: string }
  /** The name of the client in a line of `ndjson`; empty if it has none. */
  nameOf(line: number): string
}

/** One client of a file. */
interface Entry {
  /** The line of its JSON value; null: the file is one value. */
  readonly line: number | null
  /** Its path in this value. */
  readonly path: Path
  readonly document: unknown
  /** The text to send. */
  readonly text: string
  /** Members that the file has in other places, by their pointers in `document`. */
  readonly moved: ReadonlyMap<string, string>
}

/** Lists of clients are nested no deeper in a file, such as `IdentityServer.Clients` in a file of settings. */
const DEPTH_MAX = 3

/** Reads the clients of a file. @param file its name, for errors. @throws {UsageError} */
export function readClientFile(text: string, file: string): ClientFile {
  const remarks = new Set<string>()
  let realm: string | null = null
  const entries = valuesOf(text, file).flatMap(({ line, value, text: own }): Entry[] => {
    if (value === undefined) return [{ line, path: [], document: value, text: own, moved: new Map() }]
    const found = clientsIn(value, file)
    realm ??= found.realm
    if (isPage(found.list, found.wrapper))
      remarks.add(`${file} is one page of a longer list. Import the other pages too.`)
    return found.list.map((client, index) => {
      const { document, moved } = withRealmDefaults(client, found.wrapper)
      const path = found.path === null ? [] : [...found.path, index]
      return { line, path, document, text: JSON.stringify(document), moved }
    })
  })
  if (entries.length === 0) throw new UsageError(`${file} has no clients.`)
  return {
    ndjson: entries.map(({ text }) => `${text}\n`).join(''),
    documents: entries.flatMap(({ document }) => (isObject(document) ? [document] : [])),
    realm,
    remarks: [...remarks],
    placeOf: (line, pointer) => placeOf(entries[line - 1], pointer),
    nameOf: (line) => nameOf(entries[line - 1]?.document),
  }
}

function placeOf(entry: Entry | undefined, pointer: string): ReturnType<ClientFile['placeOf']> {
  if (entry === undefined) return { line: null, where: pointer }
  const inFile = entry.moved.get(pointer) ?? `${pointerTo(entry.path)}${pointer}`
  const { line } = entry
  return { line, where: line === null ? inFile : inFile === '' ? `line ${line}` : `line ${line}: ${inFile}` }
}

function nameOf(document: unknown): string {
  if (!isObject(document)) return ''
  const { name, label } = document
  return clientIdIn(document) ?? [readClient(document).clientName?.value, label, name].find(isText) ?? ''
}

/** The clients of one JSON value, with their list's path and the object around it. Null as path: the value is one client. */
function clientsIn(
  value: unknown,
  file: string,
): {
  readonly list: readonly unknown[]
  readonly path: Path | null
  readonly wrapper: Metadata
  readonly realm: string | null
} {
  const realms = (Array.isArray(value) ? value : [value]).filter(isRealm)
  if (realms.length > 1) {
    const names = realms.map(({ realm }) => realm).join(', ')
    throw new UsageError(
      `${file} has several realms of Keycloak (${names}). Give the file of one, for example with: jq '.[] | select(.realm == "NAME")'`,
    )
  }
  const [realm] = realms
  if (realm !== undefined) {
    if (!Array.isArray(realm.clients))
      throw new UsageError(
        `${file} is the realm ${realm.realm} without its clients. Export it with its clients.`,
      )
    const path = Array.isArray(value) ? [value.indexOf(realm), 'clients'] : ['clients']
    return { list: realm.clients, path, wrapper: realm, realm: realm.realm }
  }
  if (Array.isArray(value)) return { list: value, path: [], wrapper: {}, realm: null }
  const lists = isObject(value) && !isClient(value) ? [...listsIn(value, [])] : []
  const [first, second] = lists
  if (first === undefined) return { list: [value], path: null, wrapper: {}, realm: null }
  if (second !== undefined) {
    const places = lists.map(({ path }) => pointerTo(path)).join(', ')
    throw new UsageError(`${file} has several lists of clients: ${places}. Give a file with one of them.`)
  }
  return { ...first, realm: null }
}

/** The lists of clients in an object, outside the clients. */
function* listsIn(node: Metadata, path: Path): Iterable<{ list: unknown[]; path: Path; wrapper: Metadata }> {
  for (const [name, member] of Object.entries(node)) {
    if (Array.isArray(member)) {
      const isEmptyList = member.length === 0 && /^(?:items|clients|result)$/i.test(name)
      if (isEmptyList || member.some(isClient)) yield { list: member, path: [...path, name], wrapper: node }
    } else if (isObject(member) && path.length + 1 < DEPTH_MAX) yield* listsIn(member, [...path, name])
  }
}

/** Whether a list is a page of a longer one, by the members beside it of Curfew, Ory and Auth0. */
function isPage(list: readonly unknown[], wrapper: Metadata): boolean {
  const { next_cursor, next_page_token, is_last_page, total, start, next } = wrapper
  if (isText(next_cursor) || isText(next) || (isText(next_page_token) && is_last_page !== true)) return true
  return (
    typeof total === 'number' && total > list.length && (start === undefined || typeof start === 'number')
  )
}

function isRealm(value: unknown): value is Metadata & { readonly realm: string } {
  return isObject(value) && isText(value.realm) && (Array.isArray(value.clients) || 'sslRequired' in value)
}

function isClient(value: unknown): boolean {
  return isWithoutOAuth(value) || clientIdIn(value) !== null
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is Metadata {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
