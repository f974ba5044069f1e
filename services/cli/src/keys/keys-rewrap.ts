import { readEnvironment, readOrExit } from '@curfew/runtime'
import { rewrapSecrets } from '@curfew/standalone'

/** `curfew keys rewrap`: changes the ledger directly, as `migrate` does. @returns the exit status. */
export async function runRewrap({ json }: { json: boolean }): Promise<number> {
  const { databaseUrl, current, old } = readOrExit((env) =>
    readEnvironment(env, (read) => ({
      databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
      current: read.secret32('CURFEW_MASTER_KEY', { required: true }),
      old: read.secret32('CURFEW_MASTER_KEY_OLD', { required: true }),
    })),
  )
  const { seen, rewrapped, unreadable } = await rewrapSecrets(databaseUrl, { current, old }, (progress) => {
    if (progress.seen > 0)
      process.stderr.write(
        `${progress.seen} secrets checked, ${progress.rewrapped} sealed with the new master key\n`,
      )
  })
  if (json) process.stdout.write(`${JSON.stringify({ seen, rewrapped, unreadable })}\n`)
  else {
    process.stdout.write(`${rewrapped} of ${seen} secrets were sealed with CURFEW_MASTER_KEY.\n`)
    for (const object of unreadable)
      process.stdout.write(`Neither master key opens the secret of ${object}\n`)
  }
  return unreadable.length === 0 ? 0 : 1
}
