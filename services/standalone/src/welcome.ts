// The texts that standalone prints on the terminal.

interface Greeting {
  readonly url: string
  /** The generated admin key; null except at the first start. */
  readonly newAdminKey: string | null
  readonly dataDir: string
  /** The path of the log; null if it goes to standard error. */
  readonly logPath: string | null
}

/** The greeting, printed once Curfew listens. */
export function greeting({ url, newAdminKey, dataDir, logPath }: Greeting): string {
  const lines = [
    `Curfew is up at ${url}  (API: ${url}/docs, data: ${dataDir})`,
    ...(logPath === null ? [] : [`Log: ${logPath}`]),
    ...(newAdminKey === null
      ? []
      : ['', 'Admin key, shown only once (Curfew stores only its hash):', '', `  ${newAdminKey}`]),
  ]
  return `\n${indented(lines)}\n`
}

interface Call {
  readonly url: string
  readonly key: string
  readonly iss: string
  readonly sub: string
}

/** A curl command that posts a logout, ready to paste into a shell. */
export function howToPost({ url, key, iss, sub }: Call): string {
  return indented([
    `  curl -sS ${url}/v1/logout-events \\`,
    `    -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' \\`,
    `    -d '${JSON.stringify({ iss, sub })}'`,
  ])
}

/** A curl command that shows the outcome of a logout. */
export function howToLookUp({ url, key }: Pick<Call, 'url' | 'key'>): string {
  return indented([`  curl -sS "${url}/v1/logout-events/ID?wait=10" -H "Authorization: Bearer ${key}"`])
}

/** The command that shows the outcome of a posted logout, ready to paste into a shell. */
export function howToShow({
  url,
  key,
  id,
  issuer,
}: Pick<Call, 'url' | 'key'> & { readonly id: string; readonly issuer: string }): string {
  return indented([`  CURFEW_URL=${url} CURFEW_KEY=${key} npx curfew events show ${id} --issuer ${issuer}`])
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => (line === '' ? '\n' : `  ${line}\n`)).join('')
}
