/** Resolves once all else that waits for the processor has had its turn. */
export const breathe = () => new Promise<void>((resolve) => void setImmediate(resolve))
