// What a person reads on the terminal.

interface Greeting {
  readonly url: string
  /** There only at the start that made it. */
  readonly newAdminKey: string | null
  readonly dataDir: string
  /** Where the log goes when not to standard error. */
  readonly logPath: string | null
}

/** What is shown once Curfew listens. */
export function greeting({ url, newAdminKey, dataDir, logPath }: Greeting): string {
  const lines = [
    `Curfew is up at ${url}  (API: ${url}/openapi.json, data: ${dataDir})`,
    ...(logPath === null ? [] : [`Log: ${logPath}`]),
    ...(newAdminKey === null
      ? []
      : ['', 'Admin key, shown this once; only its hash is kept:', '', `  ${newAdminKey}`]),
  ]
  return `\n${indented(lines)}\n`
}

interface Call {
  readonly url: string
  readonly key: string
  readonly iss: string
  readonly sub: string
}

/** A curl command that posts a logout, as it can be pasted into a shell. */
export function howToPost({ url, key, iss, sub }: Call): string {
  return indented([
    `  curl -sS ${url}/v1/logout-events \\`,
    `    -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' \\`,
    `    -d '${JSON.stringify({ iss, sub })}'`,
  ])
}

/** A curl command that tells what became of a logout. */
export function howToLookUp({ url, key }: Pick<Call, 'url' | 'key'>): string {
  return indented([`  curl -sS "${url}/v1/logout-events/ID?wait=10" -H "Authorization: Bearer ${key}"`])
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => (line === '' ? '\n' : `  ${line}\n`)).join('')
}
