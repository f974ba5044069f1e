import { javaMissing } from '../../../deploy/server/maven.ts'
import { type Finished, run } from '../../../deploy/server/process.ts'
import { describeUnless, skipWithout } from '../../support/shared-server.ts'

// Applications for Java. Their files come from Maven, which keeps what it fetched; nothing is installed.

const ASK_TIMEOUT_MS = 20_000
const BUILD_TIMEOUT_MS = 580_000

/** For a small process and a quick start: only the first compiler tier, one collector thread. */
export const JVM_OPTIONS: readonly string[] = ['-Xmx160m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']

/** Defines suites that need a JDK with Maven. Without it they are skipped, with the reason in their title and on standard error. */
export async function describeWithJava(title: string, define: () => void): Promise<void> {
  const lookedFor = [...((await javaMissing()) ?? []), ...(await compilerMissing())]
  const missing = lookedFor.length === 0 ? null : skipWithout(title, { how: 'none', lookedFor })
  return describeUnless(missing, title, define)
}

async function compilerMissing(): Promise<readonly string[]> {
  const { code, summary } = await run('javac', ['-version'], { timeoutMs: ASK_TIMEOUT_MS })
  return code === 0 ? [] : [`No compiler: \`javac -version\` says "${summary}".`]
}

/**
 * Runs Maven or the compiler.
 *
 * @throws {Error} if it fails, with its first errors.
 */
export async function build(command: 'mvn' | 'javac', args: readonly string[]): Promise<void> {
  const finished = await run(command, args, { timeoutMs: BUILD_TIMEOUT_MS })
  if (finished.code !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${complaint(finished)}`)
}

function complaint({ output, summary }: Finished): string {
  const errors = output.split('\n').filter((line) => /error/i.test(line))
  return errors.length === 0 ? summary : errors.slice(0, 10).join('\n')
}
