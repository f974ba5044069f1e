import type { TestKeycloak } from '../../support/keycloak.ts'

/** Calls the admin API of Keycloak. @param path below the realms. @throws {Error} if the answer is an error. */
export type Admin = (method: string, path: string, body?: unknown) => Promise<Response>

export function createAdmin(keycloak: TestKeycloak): Admin {
  return async (method, path, body) => {
    const response = await fetch(`${keycloak.url}/admin/realms${path}`, {
      method,
      headers: {
        authorization: `Bearer ${await accessToken(keycloak)}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
    return response
  }
}

/** An access token of the administrator. It is valid for a minute, so each call gets its own. */
async function accessToken({ url, admin }: TestKeycloak): Promise<string> {
  const response = await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'password', client_id: 'admin-cli', ...admin }),
  })
  const { access_token } = (await response.json()) as { readonly access_token?: string }
  if (access_token === undefined) throw new Error(`Keycloak refused its administrator: ${response.status}`)
  return access_token
}
