import type { Plan, PlannedClient } from './plan.ts'

/** The calls of one product's administration that set the URIs, as a script for a shell. */
export interface Calls {
  readonly product: 'Keycloak' | 'Hydra'
  readonly script: string
}

/** The calls for the products that are recognised by the metadata of the clients. @param realm of Keycloak; null: unknown. */
export function callsOf({ clients }: Plan, realm: string | null): readonly Calls[] {
  const ofKeycloak = clients.filter(
    ({ format, member }) => format === 'keycloak' && member.startsWith('/attributes/'),
  )
  // This member is in every client that Hydra exports, and in no standard.
  const ofHydra = clients.filter(
    ({ format, document }) => format === 'oidc' && Object.hasOwn(document, 'skip_consent'),
  )
  return [
    ...(ofKeycloak.length === 0
      ? []
      : [{ product: 'Keycloak', script: keycloakScript(ofKeycloak, realm) } as const]),
    ...(ofHydra.length === 0 ? [] : [{ product: 'Hydra', script: hydraScript(ofHydra) } as const]),
  ]
}

/** The realm in the `iss` of a Keycloak realm; null if it has another form. */
export function realmOf(iss: string): string | null {
  const [, realm] = /\/realms\/([^/]+)\/?$/.exec(iss) ?? []
  return realm === undefined ? null : decodeURIComponent(realm)
}

/** Ends the script while the variable is not set. */
const NO_REALM = `: "\${REALM:?Set REALM to the name of the realm}"`

/**
 * Uses `kcadm.sh`, which every Keycloak has: it renews its own token and keeps the other settings of a client. The admin API names
 * a client by an internal id, which the script looks up, so that it also works after a realm was imported again.
 */
function keycloakScript(clients: readonly PlannedClient[], realm: string | null): string {
  const member = clients[0]?.member ?? ''
  const attribute = member.slice(member.lastIndexOf('/') + 1)
  return `# Log in first: kcadm.sh config credentials --server URL --realm master --user NAME
${realm === null ? NO_REALM : `REALM=${quoted(realm)}`}
set_logout_url() {
  id=$(kcadm.sh get clients -r "$REALM" -q "clientId=$1" --fields id --format csv --noquotes) || return
  if [ -z "$id" ]; then printf 'The realm has no client %s.\\n' "$1" >&2; return 1; fi
  kcadm.sh update "clients/$id" -r "$REALM" -s "attributes.\\"${attribute}\\"=$2" && printf '%s %s\\n' "$1" "$2"
}
${clients.map(({ client_id, uri }) => `set_logout_url ${quoted(client_id)} ${quoted(uri)}\n`).join('')}`
}

/** Uses the admin API. `hydra update client` would reset the settings of a client that it is not given. */
function hydraScript(clients: readonly PlannedClient[]): string {
  const calls = clients.map(({ client_id, member, uri }) => {
    const patch = JSON.stringify([{ op: 'replace', path: member, value: uri }])
    return `set_logout_url ${quoted(client_id)} ${quoted(encodeURIComponent(client_id))} ${quoted(patch)}\n`
  })
  return `: "\${HYDRA_ADMIN:?Set HYDRA_ADMIN to the address of the admin API, such as http://127.0.0.1:4445}"
failed=0
set_logout_url() {
  if curl -sS --fail -o /dev/null -X PATCH "$HYDRA_ADMIN/admin/clients/$2" -H 'Content-Type: application/json' -d "$3"
  then printf '%s\\n' "$1"
  else printf 'The URL of client %s was not changed.\\n' "$1" >&2; failed=1
  fi
}
${calls.join('')}[ "$failed" -eq 0 ]
`
}

/** A text as one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
