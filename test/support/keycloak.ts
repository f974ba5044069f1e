import { openKeycloak, type RunningKeycloak } from '../../deploy/keycloak/keycloak.ts'
import { describeUnless, shareServer, skipWithout } from './shared-server.ts'

const shared = shareServer({
  variable: 'CURFEW_TEST_KEYCLOAK',
  open: () => openKeycloak({ log: (line) => process.stderr.write(`keycloak: ${line}\n`) }),
})

/** Vitest's global setup: one Keycloak for the whole run. Each test file makes realms of its own there. */
export const setup: () => Promise<() => Promise<void>> = shared.setup

export type TestKeycloak = Omit<RunningKeycloak, 'stop'>

/** Defines a suite that needs Keycloak. Without it the suite is skipped, with the reason in its title and on standard error. */
export async function describeWithKeycloak(
  title: string,
  define: (keycloak: TestKeycloak) => void,
): Promise<void> {
  const keycloak = await shared.ask()
  if (keycloak.how !== 'none') return describeUnless(null, title, () => define(keycloak))
  return describeUnless(skipWithout('Keycloak', keycloak), title, () => undefined)
}
