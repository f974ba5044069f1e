// The text of `--help`, by command, so that the help for one command shows only its part.

const CONNECTION = `All commands except up, migrate, event-log use, keys rewrap and receipt verify call a running Curfew: --url URL and --key KEY, or
CURFEW_URL (default http://127.0.0.1:8480) and CURFEW_KEY. --json prints JSON for programs.
Exit status: 0 success; 1 failure or a negative answer; 2 wrong usage, or a request that the server finds invalid.
`

const PARTS: Readonly<Record<string, string>> = {
  up: `  up [--demo]   run all services in one process, with an embedded PostgreSQL
                --demo            with three relying parties on loopback and one logout
`,
  migrate: `  migrate       migrate the ledger in DATABASE_URL to the schema of this release
`,
  events: `  events post   log out a user: --iss ISSUER, and --sub SUBJECT or --sid SESSION or both
                --scope session|subject|device --device DEVICE --reason REASON --email EMAIL
                --client CLIENT_ID (may be repeated) --initiator CLIENT_ID --include-initiator
                --lane bulk --id UUID
  events show ID
                show a logout and its deliveries
                --wait SECONDS    wait until every delivery is settled, or until SECONDS have passed (at most 30)
                --issuer NAME     the issuer of the event, if several issuers use the id
`,
  'issuer-logout': `  issuer-logout
                log out all subjects of an issuer: --issuer NAME, or --iss ISSUER; counts them, then asks for confirmation
                --dry-run         only count
                --yes             do not ask
                --reason REASON --client CLIENT_ID (may be repeated) --initiator CLIENT_ID
                --follow ID       watch a running issuer logout
                --cancel ID       stop an issuer logout; no more subjects are logged out
                                  both with --issuer NAME if several issuers use the id
`,
  dlq: `  dlq list      list dead letters, with their faults and how to correct them
  dlq show ID   show a dead letter with all its attempts
  dlq replay    replay dead letters; shows the number, then asks for confirmation
                --dry-run         only show the number
                --yes             do not ask
                --include-lapsed  also dead letters of expired sessions
                --follow ID       watch a running replay
                --cancel ID       stop a replay
  filter:       --issuer NAME --client CLIENT_ID --channel KIND --reason REASON --from TIME --to TIME
                --id ID (may be repeated; replay only) --limit N (list only)
`,
  quarantine: `  quarantine list     list records that were accepted but cannot be planned or applied
                --issuer NAME --lane interactive|bulk|sessions --kind unreadable|conflict|refused
                --state waiting|requeue_requested|requeued|dismissed --limit N
  quarantine show ID  show a record, why it is in quarantine, and how to correct it
  quarantine requeue ID…
                append records to the event log again
  quarantine dismiss ID…
                ignore records for good
`,
  issuer: `  issuer list   list issuers
  issuer show NAME
                show an issuer, and the address of its relay
  issuer put NAME
                register an issuer, or change the given settings; the others stay
                --iss ISS         needed for a new issuer
                --jwks-uri URL    the keys that the relay verifies with; --no-jwks-uri: those that discovery names
                --lenient-logout-tokens, --no-lenient-logout-tokens
                                  whether the relay accepts logout tokens without exp and typ
                --widen, --no-widen
                                  whether a relayed logout notifies the other relying parties as well
                --session-index off|partial|complete
                --subject-type public|pairwise
`,
  rp: `  rp list       list relying parties with their endpoints
  rp show ID    show a relying party
  rp put FILE   register or replace a relying party: OIDC client metadata in JSON, or the export of its IdP
                --client CLIENT_ID  if the file has no client_id
  rp delete ID  remove a relying party; its history stays
  rp enable ID, rp disable ID
                --channel KIND    only one of its channels; default all
                --endpoint NAME   only one of its curfew.endpoints
  rp import FILE
                register many relying parties, all or none: NDJSON, a JSON list, or a Keycloak realm
                --dry-run         only check
                --relay           then show the URL of the relay to set for each client at the IdP, for Keycloak and Hydra as calls
                --restore         import nothing, and show how to set the URLs of the relying parties at the IdP again
                                  both without FILE: for all registered clients; --url: the relay, if CURFEW_PUBLIC_URL is not set
  rp export     export all relying parties of an issuer as NDJSON, the format of import
  rp health ID  show waiting deliveries, recent acknowledgements and their duration
  rp probe ID   send valid and forged requests to its endpoint, and report the faults
                --uri URI         another endpoint, registered or not
                --channel KIND    the endpoint of this channel, if there are several
                --alg ALGORITHM   the signing algorithm, if not the registered one
                exit status 0: all checks of level must have passed
  issuer:       --issuer NAME, if there are several, or if the key is bound to clients; FILE may be - for standard input
`,
  sla: `  sla           show the SLA report: share of kept deliveries, error budget, burn rate, deliveries at risk
                --by relying-party, --by hour   group the figures
                --client CLIENT_ID     only this relying party
                --from TIME --to TIME  range of the time of acceptance, in full hours
                --issuer NAME          if there are several
                exit status 1: the error budget is exceeded
`,
  keys: `  keys list     list signing keys and when they sign (--all: also retired keys)
  keys generate --alg ALG, keys import FILE (a private JWK or a JWK Set; --kid KID, --alg ALG, --sign-now)
                generate or import a key
  keys rotate   replace the generated keys; a new key is published before it signs (--lead-hours H)
                --alg ALG        only keys of this algorithm
                --immediately    sign at once; relying parties refuse tokens until they have fetched the key
                --every-days N   set a schedule of N days and rotate nothing; never: end the schedule
  keys retire KID [--compromised]   take a key out of service; --compromised: remove it from the key set at once
  keys rewrap   seal the secrets in DATABASE_URL with CURFEW_MASTER_KEY in place of CURFEW_MASTER_KEY_OLD
  issuer:       --issuer NAME, if there are several
`,
  doctor: `  doctor        check the database, event log, Kafka topics, master key, clock, quarantine, public URL, whether the IdP publishes our
                keys, and whether the relay can verify its tokens
                --issuer NAME     only this issuer
                exit status 0: no faults
`,
  'event-log': `  event-log use
                make all services of the ledger in DATABASE_URL use the event log of the present KAFKA_… settings, or, without
                KAFKA_BROKERS, that in PostgreSQL. First check with curfew doctor that no records wait in the old event log
                --yes             do not ask
`,
  sessions: `  sessions list     list posted sessions
                    --iss ISS --sub SUB, or --iss ISS --sid SID
  sessions orphans  list sessions whose logout failed or lapsed
                    --issuer NAME --client CLIENT_ID
                    both: --limit N
`,
  'api-keys': `  api-keys list       list API keys
  api-keys create     create an API key, and show it once
                --name NAME --scope SCOPE (may be repeated)
                --issuer NAME --client CLIENT_ID (may be repeated)  bind the key to an issuer or its clients
                --rate REQUESTS_PER_SECOND --expires TIME
  api-keys revoke ID  revoke an API key
`,
  subjects: `  subjects erase SUB  permanently erase a subject from events, deliveries, sessions and receipts
                --issuer NAME     if there are several
                --email ADDRESS   also logouts that name only this address and a session that the index did not know
                --abandon         also data that a person could still act on, such as dead letters
                --yes             do not ask
                exit status 0: nothing is left; 1: some data must be settled first, or needs a person
  subjects show ID    show a request to erase a subject
`,
  webhooks: `  webhooks list         list the webhooks, which receive notifications for operators
  webhooks put NAME     register or change a webhook; shows the secret of a new webhook once
                --to URL, optionally --type TYPE (may be repeated) --issuer NAME --disabled
  webhooks delete NAME  delete a webhook
  webhooks test NAME    send a test notification, and show the answer
`,
  receipt: `  receipt get EVENT_ID  fetch the receipt of a logout, with everything that an offline check needs
                --issuer NAME      the issuer of the event, if several issuers use the id
                --out FILE         default: standard output
                --checkpoint FILE  also prove that the receipt log begins with the log of this checkpoint
                --subject-key      also fetch the key that the subject is hashed with
  receipt verify FILE   check a receipt offline; FILE is the output of get, or a receipt alone
                --checkpoint FILE  an older checkpoint: the receipt log must have grown from it
                --key FILE         the trusted key: a verifier key (C2SP signed-note), a JWK or a JWK Set
                --sub SUB, --sid SID   the subject or session that the receipt should name
                exit status 0: all requested checks have passed
`,
  log: `  log checkpoint        fetch the signed checkpoint of the receipt log, to keep for later checks (--out FILE)
  log verify            recompute the receipt log, and compare the stored receipts and the ledger with it
                --checkpoint FILE  an older checkpoint
                --log-key FILE     the trusted key
                exit status 0: nothing was altered
`,
}

/** The usage text: of one command, or of all. */
export function usage(name?: string): string {
  const part = name !== undefined && Object.hasOwn(PARTS, name) ? PARTS[name] : undefined
  const parts = part ?? Object.values(PARTS).join('\n')
  return `Usage: curfew COMMAND\n\n${parts}\n${CONNECTION}\nSettings come from the environment; docs/reference/settings.md lists them.\n`
}

/** The hint after wrong usage: one line for a known command, otherwise the whole usage text. */
export function usageHint(name?: string): string {
  return name !== undefined && Object.hasOwn(PARTS, name) ? `See curfew ${name} --help\n` : `\n${usage()}`
}
