import { readFile } from 'node:fs/promises'
import { beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'

// Goal: libs/contract/openapi.json, which `curfew openapi` prints, is the document that Curfew serves.
// `npx vitest run test/integration/openapi.test.ts -u` writes it again.

let document: object
beforeAll(async () => {
  await using curfew: Curfew = await openCurfew({ workers: 0 })
  document = (await (await fetch(new URL('/openapi.json', curfew.url))).json()) as object
})

test('the document in the contract is the one that is served', async () => {
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot('../../libs/contract/openapi.json')
})
