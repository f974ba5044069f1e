import { type ClientMetadata, plainName, pointerTo } from '@curfew/domain'
import { logoutUriOf } from './relay.ts'

/**
 * A fact about a client's metadata that Curfew cannot use.
 *
 * - `endpoint_unread`: a back-channel URL at a place that Curfew does not read.
 * - `frontchannel_only`: the client registered only a front-channel logout.
 * - `saml_client`: the client speaks SAML.
 * - `relative_to_idp`: a relative URL of Keycloak without a `rootUrl`, which Curfew takes to be at the host of the issuer.
 * - `member_unused`: a member that changes the logout tokens of the identity provider, or when it sends them.
 */
export interface ClientRemark {
  readonly code: 'endpoint_unread' | 'frontchannel_only' | 'saml_client' | 'relative_to_idp' | 'member_unused'
  /** The place in the metadata, as a JSON pointer. */
  readonly pointer: string
  /** The consequence of `member_unused`, in words; or the origin of the URL of `relative_to_idp`. */
  readonly why?: string
}

type Metadata = Readonly<Record<string, unknown>>

/** Members of our own answers and settings. They are no metadata of the identity provider. */
const OURS = ['curfew', 'status', 'links']
/** Objects nest no deeper in the metadata of a client. */
const DEPTH_MAX = 6

const REVOKES_OFFLINE =
  'its identity provider tells it to revoke offline tokens as well. Logout tokens of Curfew do not say so'
const PAIRWISE = 'its identity provider gives it subjects of its own. Register subject_type pairwise for it'

/** Members that change the logout tokens of an identity provider, or when it sends them, by their places. */
const UNUSED: readonly {
  readonly path: readonly (string | number)[]
  readonly is: (value: unknown) => boolean
  readonly why: string
}[] = [
  {
    path: ['attributes', 'backchannel.logout.revoke.offline.tokens'],
    is: (value) => value === 'true',
    why: REVOKES_OFFLINE,
  },
  { path: ['backchannel_logout_revoke_offline_tokens'], is: isTrue, why: REVOKES_OFFLINE },
  ...['PairWiseSubjectSalt', 'pairWiseSubjectSalt'].map((name) => ({
    path: [name],
    is: isText,
    why: PAIRWISE,
  })),
  ...['AllowedIdentityTokenSigningAlgorithms', 'allowedIdentityTokenSigningAlgorithms'].map((name) => ({
    path: [name],
    is: (value: unknown) => Array.isArray(value) && value.length > 1,
    why: 'it lists several algorithms, and Curfew signs with the first',
  })),
  ...['oidc_logout', 'oidc_backchannel_logout'].flatMap((name) => [
    {
      path: [name, 'backchannel_logout_initiators', 'mode'],
      is: (value: unknown) => value === 'custom',
      why: 'its identity provider notifies it of some kinds of logout only. Curfew notifies it of all logouts that are posted',
    },
    {
      path: [name, 'backchannel_logout_session_metadata', 'include'],
      is: isTrue,
      why: 'its identity provider puts metadata of the session into logout tokens. Curfew does not have them',
    },
  ]),
]

/** The facts that Curfew cannot use, or that it can use only by a guess. @param endpoints the addresses of the client's endpoints, in all channels. */
export function remarksOn(client: ClientMetadata, endpoints: readonly string[]): readonly ClientRemark[] {
  const { format, document } = client
  const remarks: ClientRemark[] = []
  if (format === 'keycloak' && document.protocol === 'saml')
    return endpoints.length > 0 ? [] : [{ code: 'saml_client', pointer: '/protocol' }]
  const urls = [...urlsIn(document, [])].filter(({ path }) => !OURS.includes(String(path[0])))
  const named = (...words: readonly (readonly string[])[]) =>
    urls.filter(({ path }) => {
      const plain = path.map((name) => plainName(String(name))).join(' ')
      return words.every((any) => any.some((word) => plain.includes(word)))
    })
  const LOGOUT = ['logout', 'signout', 'endsession']
  for (const { path, url } of named(['backchannel'], LOGOUT)) {
    const isRead = endpoints.some((uri) => uri === url || uri.endsWith(url))
    if (!isRead) remarks.push({ code: 'endpoint_unread', pointer: pointerTo(path) })
  }
  if (endpoints.length === 0 && remarks.length === 0) {
    const [front] = named(['frontchannel'], LOGOUT)
    if (front !== undefined) remarks.push({ code: 'frontchannel_only', pointer: pointerTo(front.path) })
    else if (format === 'keycloak' && document.frontchannelLogout === true)
      remarks.push({ code: 'frontchannel_only', pointer: '/frontchannelLogout' })
    else if (format === 'keycloak' && isText(document.adminUrl))
      remarks.push({ code: 'endpoint_unread', pointer: '/adminUrl' })
  }
  const { value, pointer = '' } = logoutUriOf(client) ?? {}
  if (format === 'keycloak' && !isText(document.rootUrl) && isText(value) && value.startsWith('/')) {
    const origin = URL.parse(endpoints.find((each) => each.endsWith(value)) ?? '')?.origin
    if (origin !== undefined) remarks.push({ code: 'relative_to_idp', pointer, why: origin })
  }
  if (endpoints.length > 0)
    for (const { path, is, why } of UNUSED)
      if (is(path.reduce<unknown>(at, document)))
        remarks.push({ code: 'member_unused', pointer: pointerTo(path), why })
  return remarks
}

/** The http(s) URLs in a document, and URLs that are relative to Keycloak's `rootUrl`, with their paths. */
function* urlsIn(
  node: unknown,
  path: readonly (string | number)[],
): Iterable<{ readonly path: readonly (string | number)[]; readonly url: string }> {
  if (isText(node)) {
    if (/^(?:https?:\/\/|\/)/i.test(node)) yield { path, url: node }
  } else if (path.length > DEPTH_MAX) return
  else if (Array.isArray(node))
    for (const [index, item] of node.entries()) yield* urlsIn(item, [...path, index])
  else if (isObject(node))
    for (const [name, member] of Object.entries(node)) yield* urlsIn(member, [...path, name])
}

function at(node: unknown, name: string | number): unknown {
  return isObject(node) && Object.hasOwn(node, name) ? node[name] : undefined
}

function isTrue(value: unknown): boolean {
  return value === true
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is Metadata {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
