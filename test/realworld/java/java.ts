import { type Finished, run } from '../../../deploy/kafka/process.ts'

// Applications for Java. Their files come from Maven, which keeps what it fetched; nothing is installed.

const ASK_TIMEOUT_MS = 20_000
const BUILD_TIMEOUT_MS = 580_000

/** For a small process and a quick start: only the first compiler tier, one collector thread. */
export const JVM_OPTIONS: readonly string[] = ['-Xmx160m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']

/** Whether a JDK and Maven are there. @returns the reason that they are not, or null. */
export async function missingJava(): Promise<string | null> {
  for (const command of ['java', 'javac', 'mvn']) {
    const asked = await run(command, ['-version'], { timeoutMs: ASK_TIMEOUT_MS })
    if (asked.code !== 0) return `"${command} -version" failed: "${asked.summary}"`
  }
  return null
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
