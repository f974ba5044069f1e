import { chunksOf, readText } from './bounded.ts'

/** Far above the size of a logout request. */
export const BODY_BYTES_MAX = 64 * 1024

export const FORM_TYPE = 'application/x-www-form-urlencoded'

/** The one `logout_token` of a request (Back-Channel Logout 2.5), or the fault of the request. */
export type ReadToken =
  | { readonly ok: true; readonly token: string }
  | { readonly ok: false; readonly description: string; readonly cause?: unknown }

/** Reads the `logout_token` from a form, and ignores other fields (Back-Channel Logout 2.5). Never rejects. */
export async function readLogoutToken(request: Request): Promise<ReadToken> {
  const [type = ''] = (request.headers.get('content-type') ?? '').split(';')
  if (type.trim().toLowerCase() !== FORM_TYPE) return fault(`the body is not ${FORM_TYPE}`)
  if (Number(request.headers.get('content-length') ?? 0) > BODY_BYTES_MAX)
    return fault('the body is too large')
  let body: string
  try {
    body = await readText(chunksOf(request.body), BODY_BYTES_MAX)
  } catch (cause) {
    return { ...fault('the body is too large or cannot be read'), cause }
  }
  const [token, ...others] = new URLSearchParams(body).getAll('logout_token')
  if (!token) return fault('logout_token is missing')
  return others.length > 0 ? fault('logout_token is present more than once') : { ok: true, token }
}

function fault(description: string) {
  return { ok: false as const, description }
}
