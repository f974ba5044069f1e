import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'

// Goal: libs/contract/openapi.json, which `curfew openapi` prints, is the document that Curfew serves, and is good for generated
// clients. `npx vitest run test/integration/openapi.test.ts -u` writes it again.

interface Schema {
  readonly examples?: readonly object[]
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly tags: readonly { readonly name: string }[]
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

interface Operation {
  readonly operationId?: string
  readonly tags?: readonly string[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly example?: object }>> }
}

let curfew: Curfew
let document: Document
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  document = (await (await fetch(new URL('/openapi.json', curfew.url))).json()) as Document
})
afterAll(() => curfew?.[Symbol.asyncDispose]())

const operations = () => Object.values(document.paths).flatMap((path) => Object.values(path))

test('the document in the contract is the one that is served', async () => {
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot(
    '../../libs/contract/openapi.json',
  )
})

test('every operation has an id of its own and a tag that the document describes', () => {
  const ids = operations().map(({ operationId }) => operationId)
  expect(ids.filter((id) => !/^[a-z][A-Za-z]+$/.test(id ?? ''))).toEqual([])
  expect(new Set(ids).size).toBe(ids.length)
  const tags = new Set(operations().flatMap((operation) => operation.tags ?? ['none']))
  expect([...tags].toSorted()).toEqual(document.tags.map(({ name }) => name).toSorted())
})

test('the examples of bodies are accepted', async () => {
  const requests: readonly [string, string, string, string, number][] = [
    ['IssuerInput', '/v1/issuers/{issuer}', 'PUT', '/v1/issuers/main', 200],
    [
      'RelyingPartyInput',
      '/v1/issuers/{issuer}/relying-parties/{client_id}',
      'PUT',
      '/v1/issuers/main/relying-parties/wiki',
      201,
    ],
    ['LogoutEventInput', '/v1/logout-events', 'POST', '/v1/logout-events', 202],
    ['SessionInput', '/v1/sessions', 'POST', '/v1/sessions', 202],
  ]
  for (const [schema, template, method, path, status] of requests) {
    const examples = examplesOf(schema, document.paths[template]?.[method.toLowerCase()])
    expect(examples, schema).not.toEqual([])
    for (const example of examples) {
      const response = await curfew.call(method, path, timely(example))
      expect([schema, response.status, await response.text()]).toEqual([schema, status, expect.any(String)])
    }
  }
})

/** The examples of a body: those of its schema, and the one that the document has beside the schema. */
function examplesOf(schema: string, operation: Operation | undefined): readonly object[] {
  const contents = Object.values(operation?.requestBody?.content ?? {})
  const beside = contents.flatMap(({ example }) => (example === undefined ? [] : [example]))
  return [...(document.components.schemas[schema]?.examples ?? []), ...beside]
}

/** Moves the expiry of an example into the future. */
function timely(example: object): object {
  return 'expires_at' in example
    ? { ...example, expires_at: new Date(Date.now() + 3_600_000).toISOString() }
    : example
}
