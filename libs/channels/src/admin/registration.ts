import { type ClientMetadata, MAIN_ENDPOINT } from '@curfew/domain'
import type { Fault, RegisterContext, Registered } from '../channel.ts'
import { BASES, type Expanded, expand, type RequestTemplate } from './presets.ts'
import type { AdminRequest, AdminSettings, Own } from './settings.ts'
import { addressFault, addressOf, bodyValueFault, placeholdersIn } from './template.ts'

const OWN = '/curfew/channels/admin'
/** Headers that the request itself needs, or that belong to the connection. */
const RESERVED_HEADERS = new Set(
  'accept connection content-length content-type cookie expect host keep-alive proxy-authorization te traceparent trailer transfer-encoding upgrade user-agent'.split(
    ' ',
  ),
)
const SAMPLE = { sid: 'x', sub: 'x', email: 'x' }

/** Collects the faults of a registration. */
type Note = (member: string, detail: string) => void

/** Reads `curfew.channels.admin`. */
export function readRegistration(
  _client: ClientMetadata,
  { own, registered, targetFault }: RegisterContext<Own>,
): Registered<AdminSettings> {
  const faults: Fault[] = []
  const note: Note = (member, detail) => faults.push({ pointer: `${OWN}/${member}`, detail })
  const written = own.preset === undefined ? asWritten(own, note) : fromPreset(own, own.preset, note)
  const { session, subject, level } = written
  // The requests of a preset have no faults of their own.
  if (own.preset === undefined) checkRequests(written, note)
  const auth = authOf(own, written.auth, note)
  const origin = originOf(written, own, { note, targetFault })
  if (auth?.token && origin !== null) {
    const fault = targetFault(auth.token.endpoint)
    if (fault !== null) note('auth/token_endpoint', fault)
  }
  const enabled = registered.channels?.admin !== undefined
  return {
    endpoints:
      enabled && origin !== null
        ? [{ name: MAIN_ENDPOINT, uri: origin.uri, enabled: true, pointer: origin.pointer }]
        : [],
    settings: {
      session: session.map(storedRequest),
      subject: subject.map(storedRequest),
      level,
      holds: own.holds ?? (own.preset === undefined ? 'client' : 'issuer'),
      widen: own.widen ?? false,
      auth,
    },
    signs: null,
    best: level,
    sendsSecret: auth !== null,
    // A wrong base shows in the address of each request.
    faults: enabled
      ? [...new Map(faults.toReversed().map((fault) => [fault.pointer, fault])).values()].toReversed()
      : [],
  }
}

function storedRequest({ method, uri, success, body }: RequestTemplate): AdminRequest {
  return {
    method: method as AdminRequest['method'],
    uri,
    success: [...success],
    ...(body !== undefined && { body: { ...body } }),
  }
}

function asWritten(own: Own, note: Note): Expanded {
  for (const member of ['base', 'realm'] as const)
    if (own[member] !== undefined) note(member, 'must be absent without preset')
  const { session = [], subject = [], level = 'begun', auth } = own
  if (session.length + subject.length === 0) note('subject', 'is required, or session, or preset')
  return {
    session,
    subject,
    level,
    ...(auth !== undefined && { auth: { ofClient: auth.client_id !== undefined } }),
  }
}

function fromPreset(own: Own, preset: NonNullable<Own['preset']>, note: Note): Expanded {
  for (const member of ['session', 'subject', 'level'] as const)
    if (own[member] !== undefined) note(member, 'must be absent with preset')
  const { base = BASES[preset], realm } = own
  if (base === undefined) note('base', `is required with the preset ${preset}`)
  else if (/[?#{}]/.test(base)) note('base', 'must be an address without query, fragment and placeholders')
  else if (addressFault(base) !== null) note('base', addressFault(base) ?? '')
  if (preset === 'keycloak' && realm === undefined) note('realm', 'is required with the preset keycloak')
  if (preset !== 'keycloak' && realm !== undefined) note('realm', 'must be absent with this preset')
  return expand(preset, (base ?? '').replace(/\/+$/, ''), realm ?? '')
}

/** Notes the faults of each request by itself. */
function checkRequests({ session, subject }: Expanded, note: Note): void {
  for (const [kind, requests] of Object.entries({ session, subject })) {
    for (const [index, { uri, body = {} }] of requests.entries()) {
      const at = `${kind}/${index}`
      const fault = addressFault(uri)
      if (fault !== null) note(`${at}/uri`, fault)
      for (const [member, value] of Object.entries(body)) {
        const bodyFault = bodyValueFault(value)
        if (bodyFault !== null)
          note(`${at}/body/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`, bodyFault)
      }
      const names = placeholdersOf({ uri, body })
      if (kind === 'subject' && names.includes('sid'))
        note(`${at}/uri`, 'must not name {sid}: a logout of the subject has none')
      if (fault === null && names.length === 0)
        note(`${at}/uri`, 'must name the session or the user by a placeholder')
    }
    if (
      kind === 'session' &&
      requests.length > 0 &&
      !requests.some((each) => placeholdersOf(each).includes('sid'))
    )
      note('session/0/uri', 'must name {sid}, here or in another request of session')
  }
}

/** The placeholders of a request, in its address and body. */
function placeholdersOf({ uri, body = {} }: Pick<RequestTemplate, 'uri' | 'body'>) {
  return [uri, ...Object.values(body)].flatMap((text) =>
    typeof text === 'string' ? placeholdersIn(text) : [],
  )
}

/** The origin that all requests have in common, and where the registration has it. Null if there is none. */
function originOf(
  { session, subject }: Expanded,
  { preset }: Own,
  { note, targetFault }: { readonly note: Note } & Pick<RegisterContext<Own>, 'targetFault'>,
): { readonly uri: string; readonly pointer: string } | null {
  let first: string | null = null
  let pointer = ''
  for (const [kind, requests] of Object.entries({ session, subject })) {
    for (const [index, { uri }] of requests.entries()) {
      const member = preset === undefined ? `${kind}/${index}/uri` : 'base'
      const sample = addressOf(uri, SAMPLE)
      const fault = targetFault(sample)
      if (fault !== null) {
        note(member, fault)
        if (preset !== undefined) return null
        continue
      }
      const origin = URL.parse(sample)?.origin ?? null
      if (first === null) pointer = `${OWN}/${member}`
      first ??= origin
      if (origin !== first)
        note(
          member,
          `must have the origin of the other requests, ${first}: their credential goes nowhere else`,
        )
    }
  }
  return first === null ? null : { uri: first, pointer }
}

function authOf(
  { preset, auth: own = {} }: Own,
  defaults: Expanded['auth'],
  note: Note,
): AdminSettings['auth'] {
  if (Object.keys(own).length === 0 && defaults === undefined) return null
  const { header = 'authorization', client_id } = own
  if (RESERVED_HEADERS.has(header.toLowerCase()))
    note('auth/header', 'must not be a header that HTTP itself uses')
  if (client_id === undefined) {
    if (defaults?.ofClient === true) note('auth/client_id', `is required with the preset ${preset}`)
    for (const member of ['token_endpoint', 'scope', 'audience', 'method'] as const)
      if (own[member] !== undefined) note(`auth/${member}`, 'must be absent without client_id')
    return { header, prefix: own.prefix ?? defaults?.prefix ?? 'Bearer ', token: null }
  }
  const { token_endpoint: endpoint = defaults?.token_endpoint } = own
  if (endpoint === undefined) note('auth/token_endpoint', 'is required with client_id')
  return {
    header,
    prefix: own.prefix ?? 'Bearer ',
    token: {
      endpoint: endpoint ?? '',
      client_id,
      method: own.method ?? defaults?.method ?? 'client_secret_basic',
      scope: own.scope ?? defaults?.scope ?? null,
      audience: own.audience ?? defaults?.audience ?? null,
    },
  }
}
