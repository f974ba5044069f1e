import type { RelyingPartySettings } from '@curfew/contract'
import { createDatabase, type Database } from '@curfew/ledger'
import { createLoad, ISS, type Load, type Stream } from './load.ts'
import { PORT } from './pipeline.ts'
import { openPostgres } from './postgres.ts'
import { forgetPeakMemoryOf, openSubject, peakMemoryOf, type Subject } from './processes.ts'
import { openRelyingParties, type RelyingParties } from './relying-parties.ts'
import { type Bare, fullTurn, openBare, type Settings } from './turns.ts'

/** A new, empty Curfew with an accessible database, relying parties and the bare loop. */
export interface Stage extends AsyncDisposable {
  readonly subject: Subject
  readonly db: Database
  readonly relyingParties: RelyingParties
  readonly load: Load
  readonly bare: Bare
  /** Registers `count` relying parties of one group. @returns their client ids. */
  register(
    group: string,
    count: number,
    options?: {
      readonly curfew?: RelyingPartySettings
      readonly at?: RelyingParties
      /** The name of their issuer. Default: `main`. */
      readonly issuer?: string
    },
  ): Promise<readonly string[]>
  /** The highest rate of deliveries, measured after a warm-up turn. */
  highestRate(stream: Stream): Promise<number>
  /** The peak memory of Curfew's process since the last call, in MiB; null if it is unknown. */
  takePeakMemoryMib(): number | null
}

/** A port outside the ephemeral range: relying parties that stop listening must find it free when they listen again. */
const RELYING_PARTIES_PORT = PORT + 1
const REGISTER_AT_ONCE = 8

/** Opens a stage. If a step fails, the earlier ones are closed again. @param env additional settings of Curfew. */
export async function openStage(
  settings: Settings,
  env: Readonly<Record<string, string>> = {},
): Promise<Stage> {
  await using opening = new AsyncDisposableStack()
  const postgres = opening.use(await openPostgres(settings.progress))
  const relyingParties = await openRelyingParties(RELYING_PARTIES_PORT)
  opening.defer(() => relyingParties.stop())
  const bare = await openBare(relyingParties.bareUri, settings)
  opening.defer(() => bare.stop())
  const subject = await openSubject(PORT, { ...env, DATABASE_URL: postgres.url })
  opening.defer(() => subject.stop())
  // Counting a million rows may take long.
  const db = createDatabase(postgres.url, { poolMax: 2, statementTimeoutMs: 0 })
  opening.defer(() => db.end())
  await subject.client.putIssuer('main', { iss: ISS })
  const load = createLoad(subject, relyingParties)
  const opened = opening.move()

  return {
    subject,
    db,
    relyingParties,
    load,
    bare,
    async register(group, count, { curfew = {}, at = relyingParties, issuer = 'main' } = {}) {
      const ids = Array.from({ length: count }, (_, n) => `${group}-${n}`)
      const left = [...ids]
      const registerNext = async () => {
        for (let id = left.pop(); id !== undefined; id = left.pop()) {
          await subject.client.putRelyingParty(issuer, id, {
            backchannel_logout_uri: at.uriOf(group, id),
            id_token_signed_response_alg: settings.algorithm,
            curfew,
          })
        }
      }
      await Promise.all(Array.from({ length: REGISTER_AT_ONCE }, registerNext))
      return ids
    },
    async highestRate(stream) {
      await fullTurn({ subject, load }, stream, settings.seconds)
      const { rate } = await fullTurn({ subject, load }, stream, settings.seconds)
      return rate
    },
    takePeakMemoryMib() {
      const pid = subject.process.pid ?? 0
      const peak = peakMemoryOf(pid)
      forgetPeakMemoryOf(pid)
      return peak
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}
