// What `--help` says, by command, so that who asks about one is not shown all.

const CONNECTION = `Every command but up, migrate, event-log use, keys rewrap and receipt verify speaks to a running Curfew: --url URL, --key KEY, or
CURFEW_URL (default http://127.0.0.1:8480) and CURFEW_KEY. --json: for machines.
Exit status: 0 done; 1 the answer is no, or nobody answers; 2 asked wrongly, also where the server says so.
`

const PARTS: Readonly<Record<string, string>> = {
  up: `  up [--demo]   run everything in one process: API, delivery, embedded PostgreSQL
                --demo: with three relying parties on loopback and one logout
`,
  migrate: `  migrate       bring the ledger of DATABASE_URL to this release's schema
`,
  events: `  events post   log somebody out: --iss ISSUER, and --sub SUBJECT or --sid SESSION or both
                --scope session|subject|device --device DEVICE --reason REASON --email EMAIL
                --client CLIENT_ID (may be repeated) --initiator CLIENT_ID --include-initiator
                --lane bulk --id UUID
  events show ID
                what became of it
                --wait SECONDS    when every delivery is settled, or the time is up (up to 30)
                --issuer NAME     whose, where several issuers use the id
`,
  'issuer-logout': `  issuer-logout
                log out everyone of an issuer: --issuer NAME, or --iss ISSUER; counts first, and asks
                --dry-run         count only
                --yes             do not ask
                --reason REASON --client CLIENT_ID (may be repeated) --initiator CLIENT_ID
                --follow ID       watch one that is under way
                --cancel ID       stop one: nobody else is logged out
                                  both with --issuer NAME where several issuers use the id
`,
  dlq: `  dlq list      dead letters: what went wrong, and what would mend it
  dlq show ID   one of them, with every attempt
  dlq replay    put them back; shows first what that touches, and asks
                --dry-run         show only
                --yes             do not ask
                --include-lapsed  also those whose session is over by itself
                --follow ID       watch a replay that is under way
                --cancel ID       stop one
  which ones:   --issuer NAME --client CLIENT_ID --channel KIND --reason REASON --from TIME --to TIME
                --id ID (may be repeated; replay only) --limit N (list only)
`,
  quarantine: `  quarantine list     records that were accepted and cannot be planned or applied
                --issuer NAME --lane interactive|bulk|sessions --kind unreadable|conflict|refused
                --state waiting|requeue_requested|requeued|dismissed --limit N
  quarantine show ID  the record, why it is there and what can be done about it
  quarantine requeue ID…
                append it to the event log again
  quarantine dismiss ID…
                give it up
`,
  rp: `  rp list       relying parties: who is told, and where
  rp show ID    one of them
  rp put FILE   register one, or replace it: OIDC client metadata as JSON, or as its IdP exports it
                --client CLIENT_ID  where the file names none
  rp delete ID  remove one; its history stays
  rp enable ID, rp disable ID
                --channel KIND    just one of its channels; default all
                --endpoint NAME   just one of its curfew.endpoints
  rp import FILE
                many at once, all or none: NDJSON, a JSON list, or a Keycloak realm
                --dry-run         check only
  rp export     all of an issuer as NDJSON, as import takes it
  rp health ID  what waits, what was acknowledged, how fast
  rp probe ID   send its endpoint the tokens that it must take and must refuse
                --uri URI         another endpoint, registered or not
                --channel KIND    the endpoint of this channel, where there are several
                --alg ALGORITHM   what its tokens are signed with, if not as registered
                exit status 0: every must is passed
  whose:        --issuer NAME, where there are several, or the key is bound to clients; FILE may be -
`,
  sla: `  sla           whether the promise is kept: share, error budget, how fast it burns, what is at risk
                --by relying-party, --by hour
                --client CLIENT_ID  of this one only
                --from TIME --to TIME  by when it was accepted, to full hours
                --issuer NAME     where there are several
                exit status 1: more is broken than may be
`,
  keys: `  keys list     signing keys, and when they turn (--all: those that are retired too)
  keys generate --alg ALG, keys import FILE (a private JWK; --alg ALG, --sign-now)
  keys rotate   let new keys take over: published before (--lead-hours H), and after
                --alg ALG        of this algorithm only
                --immediately    sign now; relying parties refuse until they have fetched it
                --every-days N   by themselves from now on, or never
  keys retire KID [--compromised]   out of service; --compromised: out of the key set at once
  keys rewrap   put what lies under CURFEW_MASTER_KEY_OLD under CURFEW_MASTER_KEY, in DATABASE_URL
  of which:     --issuer NAME, where there are several
`,
  doctor: `  doctor        database, event log, Kafka topics, master key, clock, quarantine, and whether the IdP publishes our keys
                --issuer NAME     of this one only
                exit status 0: all is well
`,
  'event-log': `  event-log use
                have all services of the ledger in DATABASE_URL use the event log of these KAFKA_… settings; without
                KAFKA_BROKERS the one in PostgreSQL. Records of the one before must have been read: curfew doctor
                --yes             do not ask
`,
  sessions: `  sessions list     who holds which session, as far as the IdP has posted it
                    --iss ISS --sub SUB, or --iss ISS --sid SID
  sessions orphans  sessions that ought to be over: their logout came to nothing
                    --issuer NAME --client CLIENT_ID
                    both: --limit N
`,
  'api-keys': `  api-keys list       who may call
  api-keys create     a new key, shown this once
                --name NAME --scope SCOPE (may be repeated)
                --issuer NAME --client CLIENT_ID (may be repeated)  what it is bound to
                --rate REQUESTS_PER_SECOND --expires TIME
  api-keys revoke ID  end one
`,
  subjects: `  subjects erase SUB  forget a subject for good: whom events, deliveries, sessions and receipts are about
                --issuer NAME, where there are several
                --email ADDRESS   an address of theirs: also logouts that name only it and a session that no index knew
                --abandon         also what a person could still act on, such as dead letters
                --yes             do not ask
                exit status 0: nothing is left; 1: something waits, for its end or for a person
  subjects show ID    how such a request stands
`,
  webhooks: `  webhooks list         where operators are told of what happens
  webhooks put NAME     register or change one; shows the secret of a new one, this once
                --to URL, and if you like --type TYPE (may be repeated) --issuer NAME --disabled
  webhooks delete NAME
  webhooks test NAME    send it a test, and say what it answers
`,
  receipt: `  receipt get EVENT_ID  proof of what became of a logout, with all that it is checked by
                --issuer NAME      whose, where several issuers use the id
                --out FILE         default: standard output
                --checkpoint FILE  prove also that the log begins with the one of this checkpoint
                --subject-key      with the key that tells whom it is of, where that is hashed
  receipt verify FILE   check one, offline; FILE is what get gave, or a receipt alone
                --checkpoint FILE  one that was kept: the log must have grown from it
                --key FILE         the key to trust: a verifier key (C2SP signed-note), a JWK or JWK Set
                --sub SUB, --sid SID   whom it should be of
                exit status 0: all that was asked for holds
`,
  log: `  log checkpoint        what the log of receipts is now, signed: keep it (--out FILE)
  log verify            recompute the log, and hold stored receipts and the ledger against it
                --checkpoint FILE  one that was kept
                --log-key FILE     the key to trust
                exit status 0: nothing was altered
`,
}

/** How the command is called: all of it, or what concerns the command that is named. */
export function usage(name?: string): string {
  const part = name !== undefined && Object.hasOwn(PARTS, name) ? PARTS[name] : undefined
  const parts = part ?? Object.values(PARTS).join('\n')
  return `Usage: curfew COMMAND\n\n${parts}\n${CONNECTION}\nSettings come from the environment; docs/reference/settings.md lists them.\n`
}

/** Where to look after a mistake: one line where the command is known, else all. */
export function usageHint(name?: string): string {
  return name !== undefined && Object.hasOwn(PARTS, name) ? `See curfew ${name} --help\n` : `\n${usage()}`
}
