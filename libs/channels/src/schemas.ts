import { Type } from 'typebox'

/** The schema of an enumeration of texts. */
export const oneOf = <Value extends string>(
  values: readonly Value[],
  options: { description?: string } = {},
) => Type.Unsafe<Value>({ type: 'string', enum: [...values], ...options })
