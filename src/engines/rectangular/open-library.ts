import { EmbedError, toReason } from '../../errors.ts'

/** Loads an engine's native library. @param fix what to do when it cannot be loaded @throws {EmbedError} ENGINE_UNAVAILABLE */
export function openLibrary<Library>(
  engine: string,
  path: string,
  load: (path: string) => Library,
  fix: string,
): Library {
  try {
    return load(path)
  } catch (cause) {
    const reason = `its library ${path} cannot be loaded: ${toReason(cause)}`
    throw new EmbedError('ENGINE_UNAVAILABLE', { engine, reason, fix }, { cause })
  }
}
