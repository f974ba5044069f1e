import { decodeProtectedHeader, errors } from 'jose'

/**
 * What a token's header says, before anything of it is verified.
 *
 * @throws {errors.JOSEError} when it has none.
 */
export function headerOf(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token)
  } catch (cause) {
    throw new errors.JWTInvalid('the header cannot be read', { cause })
  }
}
