/**
 * Remembers used tokens (Back-Channel Logout 2.6 step 8). A key is an opaque hash of issuer, client and `jti`. The receiver adds
 * it after the app has ended the session, because a failed logout must be repeatable.
 */
export interface ReplayStore {
  has(key: string): boolean | Promise<boolean>
  /** @param ttlS the time for which the key must be remembered, in whole seconds. */
  add(key: string, ttlS: number): void | Promise<void>
}

export interface MemoryReplayStoreOptions {
  /** The greatest number of keys. Above it, the oldest key is dropped. Default 100,000. */
  readonly keysMax?: number
  readonly now?: () => Date
}

/** Creates a replay store in memory, for one process. A restart empties it. */
export function memoryReplayStore({
  keysMax = 100_000,
  now = () => new Date(),
}: MemoryReplayStoreOptions = {}): ReplayStore {
  /** The end of each key in milliseconds, in the order of addition. */
  const ends = new Map<string, number>()
  return {
    has: (key) => (ends.get(key) ?? 0) > now().getTime(),
    add(key, ttlS) {
      const nowMs = now().getTime()
      ends.delete(key)
      ends.set(key, nowMs + ttlS * 1_000)
      for (const [oldest, endMs] of ends) {
        if (endMs > nowMs && ends.size <= keysMax) break
        ends.delete(oldest)
      }
    },
  }
}

/** The used members of a Redis client: `setEx` of `redis` (node-redis), or `setex` of `ioredis` and `@upstash/redis`. */
export type RedisLike = { exists(key: string): Promise<number> } & (
  | { setEx(key: string, seconds: number, value: string): Promise<unknown> }
  | { setex(key: string, seconds: number, value: string): Promise<unknown> }
)

/** Creates a replay store for several processes. It works with Redis, Valkey and any server with EXISTS and SETEX. */
export function redisReplayStore(
  client: RedisLike,
  { prefix = 'curfew:rp:' }: { readonly prefix?: string } = {},
): ReplayStore {
  return {
    has: async (key) => (await client.exists(prefix + key)) > 0,
    async add(key, ttlS) {
      if ('setEx' in client) await client.setEx(prefix + key, ttlS, '1')
      else await client.setex(prefix + key, ttlS, '1')
    },
  }
}
