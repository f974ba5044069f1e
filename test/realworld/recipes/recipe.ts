import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Curfew } from '../../support/curfew.ts'
import { ROOT, readPages } from '../../support/docs-pages.ts'
import type { Browser } from '../browser.ts'
import type { Idp } from '../idp.ts'
import { type Served, serve } from '../serve.ts'

// The configurations and programs of the recipes in docs/. The tests run them as a reader pastes them.

const PAGES = readPages()

/**
 * A configuration as a document shows it, so that the tests run with the lines that a reader pastes.
 *
 * @param language the word after the fence. The page has one block of it.
 * @param names replaces the names of the document, such as `https://shop.example`, by those of a test.
 * @throws {Error} if the page has no such block or more than one, or if it lacks a name.
 */
export function recipe(page: string, language: string, names: Readonly<Record<string, string>>): string {
  const blocks = PAGES.find(({ path }) => path === page)?.blocks.filter(
    (block) => block.language === language,
  )
  const [block] = blocks ?? []
  if (block === undefined || blocks?.length !== 1)
    throw new Error(`${page} has ${blocks?.length ?? 0} blocks of ${language}, not one`)
  return Object.entries(names).reduce((text, [name, here]) => {
    if (!text.includes(name)) throw new Error(`${page}: the ${language} block does not have ${name}`)
    return text.replaceAll(name, here)
  }, block.text)
}

/** Runs the program of a page, the only block of `js`, in an empty folder with the packages of this repository. */
export async function serveProgram(
  page: string,
  names: Readonly<Record<string, string>>,
  { url, env }: { readonly url: string; readonly env: Readonly<Record<string, string>> },
): Promise<Served> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-recipe-'))
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  await writeFile(join(folder, 'program.mjs'), recipe(page, 'js', names))
  const served = await serve(process.execPath, ['program.mjs'], { url, cwd: folder, env })
  return {
    get log() {
      return served.log
    },
    async close() {
      await served.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** An RP with the configuration of a page. Its page `/` names the user of the session; `/sid` requires one, and shows its `sid`. */
export interface RecipeRp extends Served {
  readonly clientId: string
  /** The URI that accepts logout tokens. */
  readonly logoutUri: string
  /** Logs in at the IdP. @returns the sid of the ID token. */
  logIn(browser: Browser, user: string): Promise<string>
  /** The user of the browser's session at this RP, or null. Then the IdP may have begun a login. */
  userOf(browser: Browser): Promise<string | null>
}

/** Logs browsers in to the RP at `url`, and reads its pages. */
export function openPages(idp: Idp, url: string, served: Served): Pick<RecipeRp, 'logIn' | 'userOf'> {
  return {
    async logIn(browser, user) {
      const { url: at, status, body } = await idp.logIn(browser, await browser.open(`${url}/sid`), user)
      if (status !== 200 || !at.startsWith(url))
        throw new Error(`${user} could not log in: ${at} ${status} ${body}\n${served.log}`)
      return body
    },
    async userOf(browser) {
      const { url: at, body } = await browser.open(`${url}/`)
      return at === `${url}/` && body !== '' ? body : null
    },
  }
}

/** Probes an RP. @returns the ids of the checks that it must pass, and does not. */
export async function failedMusts(curfew: Curfew, idp: Idp, clientId: string): Promise<readonly string[]> {
  const { report } = await curfew.client.probe(idp.name, clientId)
  if (report === null) throw new Error(`the probe of ${clientId} has no report`)
  return report.checks
    .filter(({ level, result }) => level === 'must' && result !== 'passed')
    .map(({ id }) => id)
}
