/** What a person sees once Curfew listens. The admin key is there only at the start that made it. */
export function greeting({
  url,
  newAdminKey,
  dataDir,
  logPath,
}: {
  url: string
  newAdminKey: string | null
  dataDir: string
  logPath: string | null
}): string {
  const lines = [
    '',
    `  Curfew is up at ${url}  (API: ${url}/openapi.json, data: ${dataDir})`,
    ...(logPath === null ? [] : [`  Log: ${logPath}`]),
    ...(newAdminKey === null
      ? []
      : ['', '  Admin key, shown this once; only its hash is kept:', '', `    ${newAdminKey}`]),
    '',
    '  Post a logout:',
    '',
    ...curlPost({
      url,
      key: newAdminKey ?? '$CURFEW_ADMIN_KEY',
      iss: 'https://idp.example',
      sub: 'alice',
    }).map((line) => `    ${line}`),
    '',
    '',
  ]
  return lines.join('\n')
}

/** A curl command that posts a logout, as it can be pasted into a shell. */
export function curlPost({
  url,
  key,
  iss,
  sub,
}: {
  url: string
  key: string
  iss: string
  sub: string
}): string[] {
  return [
    `curl -sS ${url}/v1/logout-events \\`,
    `  -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' \\`,
    `  -d '${JSON.stringify({ iss, sub })}'`,
  ]
}
