/** Replaces every reference of an OpenAPI document by the component that it names. */
export function withoutReferences<Document>(document: Document): Document {
  const resolve = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(resolve)
    if (typeof node !== 'object' || node === null) return node
    const { $ref } = node as { readonly $ref?: unknown }
    if (typeof $ref === 'string') {
      const path = $ref.replace(/^#\//, '').split('/')
      return resolve(path.reduce<unknown>((at, name) => Object(at)[name], document))
    }
    return Object.fromEntries(Object.entries(node).map(([name, value]) => [name, resolve(value)]))
  }
  return resolve(document) as Document
}
