import { IntrospectionError, type IntrospectorOptions, introspector } from '@curfew/rs'

/** Whether the issuer says that a token is active (RFC 7662). Null: it does not say. */
export type Introspect = (token: string) => Promise<boolean | null>

/** @param onFailed called with the reason when the issuer does not say. */
export function createIntrospect(
  options: IntrospectorOptions,
  onFailed: (detail: string) => void,
): Introspect {
  const isActive = introspector(options)
  return (token) =>
    isActive(token).catch((error: unknown) => {
      if (!(error instanceof IntrospectionError)) throw error
      onFailed(error.message)
      return null
    })
}
