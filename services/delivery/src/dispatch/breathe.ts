/** Yields to the event loop. Resolves after other waiting work has had a turn. */
export const breathe = () => new Promise<void>((resolve) => void setImmediate(resolve))
