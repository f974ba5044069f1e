/**
 * Remembers which tokens were used (Back-Channel Logout 2.6 step 8). A key is opaque, short, and names issuer, client and
 * `jti`; it is added only once the app has ended the session, for a logout that failed must be repeatable.
 */
export interface ReplayStore {
  has(key: string): boolean | Promise<boolean>
  /** @param ttlS for how long the key must be remembered, in whole seconds. */
  add(key: string, ttlS: number): void | Promise<void>
}

export interface MemoryReplayStoreOptions {
  /** How many keys are kept; over it the oldest goes. Default 100,000. */
  readonly keysMax?: number
  readonly now?: () => Date
}

/** For one process; after a restart, what it has seen is forgotten. */
export function memoryReplayStore({
  keysMax = 100_000,
  now = () => new Date(),
}: MemoryReplayStoreOptions = {}): ReplayStore {
  /** Each key's end, in milliseconds; in the order in which they were added. */
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

/** What is needed of a Redis client, as `redis` (node-redis) has it, and as `ioredis` and `@upstash/redis` have it. */
export type RedisLike = { exists(key: string): Promise<number> } & (
  | { setEx(key: string, seconds: number, value: string): Promise<unknown> }
  | { setex(key: string, seconds: number, value: string): Promise<unknown> }
)

/** For several processes. Works with Redis, Valkey and whatever else has EXISTS and SETEX. */
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
