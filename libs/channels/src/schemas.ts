import { Type } from 'typebox'

/** One of some texts. */
export const oneOf = <Value extends string>(
  values: readonly Value[],
  options: { description?: string } = {},
) => Type.Unsafe<Value>({ type: 'string', enum: [...values], ...options })
