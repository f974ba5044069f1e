type Metadata = Readonly<Record<string, unknown>>

const ALGORITHM = 'id.token.signed.response.alg'
/** The default of Keycloak and of Curfew. */
const DEFAULT_ALGORITHM = 'RS256'

/**
 * A client of a Keycloak realm, with the realm's default algorithm of signatures if the client has none of its own.
 *
 * @param realm the object around the list of clients. @returns the client, and the places of its new members in the realm.
 */
export function withRealmDefaults(
  client: unknown,
  realm: Metadata,
): { readonly document: unknown; readonly moved: ReadonlyMap<string, string> } {
  const { defaultSignatureAlgorithm: algorithm } = realm
  const { protocol, attributes } = Object(client) as Metadata
  const isObject = typeof client === 'object' && client !== null
  const unset =
    !isObject || typeof algorithm !== 'string' || algorithm === '' || algorithm === DEFAULT_ALGORITHM
  const own = (Object(attributes) as Metadata)[ALGORITHM]
  const hasOwn = typeof own === 'string' && own !== ''
  if (unset || hasOwn || (protocol !== undefined && protocol !== 'openid-connect'))
    return { document: client, moved: new Map() }
  return {
    document: { ...Object(client), attributes: { ...Object(attributes), [ALGORITHM]: algorithm } },
    moved: new Map([[`/attributes/${ALGORITHM}`, '/defaultSignatureAlgorithm']]),
  }
}
