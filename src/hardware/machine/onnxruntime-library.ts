/** Where the ONNX Runtime library is that the onnxruntime-node package carries. */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { EmbedError, toReason } from '../../errors.ts'

const fileNames: Partial<Record<NodeJS.Platform, RegExp>> = {
  linux: /^libonnxruntime\.so/,
  darwin: /^libonnxruntime\.\d+\.dylib$/,
  win32: /^onnxruntime\.dll$/,
}

/** @returns the absolute path of libonnxruntime for this platform
 * @throws {EmbedError} LIBRARY_NOT_FOUND when the package is absent or has no build for this platform */
export function findOnnxruntimeLibrary(): string {
  const searched: string[] = []
  const folder = packageFolder(searched)
  const wanted = fileNames[process.platform]
  if (folder !== undefined && wanted !== undefined) {
    const bin = join(folder, 'bin')
    for (const abi of existsSync(bin) ? readdirSync(bin) : []) {
      const candidate = join(bin, abi, process.platform, process.arch)
      searched.push(candidate)
      const file = existsSync(candidate)
        ? readdirSync(candidate).find((name) => wanted.test(name))
        : undefined
      if (file !== undefined) return join(candidate, file)
    }
  }
  throw new EmbedError('LIBRARY_NOT_FOUND', {
    library: 'libonnxruntime',
    searched,
    fix: 'install the package onnxruntime-node on a platform it has a build for, or use another engine',
  })
}

function packageFolder(searched: string[]): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  } catch (error) {
    searched.push(`the package onnxruntime-node: ${toReason(error)}`)
    return undefined
  }
}
