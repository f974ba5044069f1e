import { readPages } from '../support/docs-pages.ts'

const IMPORT = /^import \{ ([^}]+) \} from '[^']+'\n/gm
const AsyncFunction = (async () => undefined).constructor as new (
  ...parametersAndBody: string[]
) => (...values: unknown[]) => Promise<void>

/**
 * Takes the only JavaScript block of a document, and runs it.
 *
 * @param values the values of its names, also of those that it imports.
 * @throws {Error} if it imports a name that `values` does not have.
 */
export async function runSnippet(page: string, values: Readonly<Record<string, unknown>>): Promise<void> {
  const text = readPages().find(({ path }) => path === page)?.text ?? ''
  const [block, ...others] = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, code = '']) => code)
  if (block === undefined || others.length > 0) throw new Error(`${page} does not have one js block`)
  for (const [, names = ''] of block.matchAll(IMPORT)) {
    for (const name of names.split(', '))
      if (!(name in values))
        throw new Error(`The snippet of ${page} imports ${name}, which the test does not know`)
  }
  await new AsyncFunction(...Object.keys(values), block.replaceAll(IMPORT, ''))(...Object.values(values))
}
