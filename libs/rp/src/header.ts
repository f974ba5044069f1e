import { decodeProtectedHeader, errors } from 'jose'

/**
 * Decodes the header of a token without verifying anything.
 *
 * @throws {errors.JOSEError} if the token has no readable header.
 */
export function headerOf(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token)
  } catch (cause) {
    throw new errors.JWTInvalid('the header cannot be read', { cause })
  }
}
