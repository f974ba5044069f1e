// The requests that end sessions and tokens at the admin APIs of products, from their documentation.

/** One request, as it is registered. */
export interface RequestTemplate {
  readonly method: string
  readonly uri: string
  readonly success: readonly number[]
  readonly body?: Readonly<Record<string, string | number | boolean>>
}

/** The written-out form of a preset. */
export interface Expanded {
  readonly session: readonly RequestTemplate[]
  readonly subject: readonly RequestTemplate[]
  readonly level: 'done' | 'begun'
  /** Defaults of `auth`. Absent: the API asks for no credential. */
  readonly auth?: {
    readonly prefix?: string
    readonly token_endpoint?: string
    readonly audience?: string
    readonly scope?: string
    readonly method?: 'client_secret_basic' | 'client_secret_post'
    /** Whether the credential is an access token for the client of `auth.client_id`. */
    readonly ofClient: boolean
  }
}

export const PRESETS = ['keycloak', 'hydra', 'okta', 'auth0', 'graph'] as const
export type Preset = (typeof PRESETS)[number]

/** The base address of a preset that has one address for everyone. */
export const BASES: Partial<Record<Preset, string>> = { graph: 'https://graph.microsoft.com' }

/** @param base without a slash at its end. */
export function expand(preset: Preset, base: string, realm: string): Expanded {
  return EXPANSIONS[preset](base, encodeURIComponent(realm))
}

const EXPANSIONS: Readonly<Record<Preset, (base: string, realm: string) => Expanded>> = {
  keycloak(base, realm) {
    const admin = `${base}/admin/realms/${realm}`
    return {
      session: [{ method: 'DELETE', uri: `${admin}/sessions/{sid}`, success: [204, 404] }],
      subject: [{ method: 'POST', uri: `${admin}/users/{sub}/logout`, success: [204, 404] }],
      level: 'done',
      auth: { token_endpoint: `${base}/realms/${realm}/protocol/openid-connect/token`, ofClient: true },
    }
  },
  hydra(base) {
    const sessions = `${base}/admin/oauth2/auth/sessions`
    return {
      session: [{ method: 'DELETE', uri: `${sessions}/login?sid={sid}`, success: [204, 404] }],
      subject: [
        { method: 'DELETE', uri: `${sessions}/login?subject={sub}`, success: [204, 404] },
        { method: 'DELETE', uri: `${sessions}/consent?subject={sub}&all=true`, success: [204, 404] },
      ],
      level: 'done',
    }
  },
  okta(base) {
    const uri = `${base}/api/v1/users/{sub}/sessions?oauthTokens=true&forgetDevices=false`
    return {
      session: [],
      subject: [{ method: 'DELETE', uri, success: [204, 404] }],
      level: 'done',
      auth: { prefix: 'SSWS ', ofClient: false },
    }
  },
  auth0(base) {
    const api = `${base}/api/v2`
    return {
      session: [{ method: 'DELETE', uri: `${api}/sessions/{sid}`, success: [202, 204, 404] }],
      subject: ['sessions', 'refresh-tokens'].map((what) => ({
        ...{ method: 'DELETE', uri: `${api}/users/{sub}/${what}`, success: [202, 204, 404] },
      })),
      level: 'begun',
      auth: {
        ...{ token_endpoint: `${base}/oauth/token`, audience: `${api}/` },
        ...{ method: 'client_secret_post', ofClient: true },
      },
    }
  },
  graph: (base) => ({
    session: [],
    subject: [
      { method: 'POST', uri: `${base}/v1.0/users/{sub}/revokeSignInSessions`, success: [200, 204, 404] },
    ],
    level: 'begun',
    auth: { scope: `${base}/.default`, method: 'client_secret_post', ofClient: true },
  }),
}
