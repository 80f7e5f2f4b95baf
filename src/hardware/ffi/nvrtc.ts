/** NVIDIA's runtime compiler, nvrtc.h of 13.0: CUDA C++ to machine code in this process; needs no GPU and no driver. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { EmbedError } from '../../errors.ts'
import {
  declareEnum,
  declareHandle,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  oncePerPath,
} from './library.ts'

export type NvrtcProgram = Pointer<'nvrtcProgram'>

/** nvrtcResult */
const NVRTC_ERROR_COMPILATION = 6

declareEnum('nvrtcResult')
declareHandle('nvrtcProgram')

export type Nvrtc = ReturnType<typeof declareNvrtc>

/** The function table of `libnvrtc` at `path`. A call that fails throws NVRTC_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened */
export const loadNvrtc: (path: string) => Nvrtc = oncePerPath((path) => {
  loadBuiltins(dirname(path))
  return declareNvrtc(path)
})

/** NVRTC opens libnvrtc-builtins by its bare name, which pip's folders are not searched for: unless it is open already. */
function loadBuiltins(folder: string): void {
  if (!isAbsolute(folder) || !existsSync(folder)) return
  const names = readdirSync(folder).filter((name) => /^libnvrtc-builtins\.so\.[\d.]+$/.test(name))
  for (const name of names) loadLibrary(join(folder, name))
}

function declareNvrtc(path: string) {
  const library = loadLibrary(path)
  const nvrtcGetErrorString = library.declare<[status: number], string>(
    'const char *nvrtcGetErrorString(nvrtcResult result)',
  )
  const fail = (status: number, api: string): never => {
    throw new EmbedError('NVRTC_STATUS', { api, status, reason: nvrtcGetErrorString(status) })
  }
  const check = (status: number, api: string): void => {
    if (status !== 0) fail(status, api)
  }
  /** False when the source is at fault: the log says what is wrong with it. */
  const checkCompiled = (status: number, api: string): boolean => {
    if (status !== 0 && status !== NVRTC_ERROR_COMPILATION) fail(status, api)
    return status === 0
  }
  const checked = <Args extends readonly unknown[]>(parameters: string): NativeFunction<Args, void> =>
    library.declare<Args, number, void>(`nvrtcResult ${parameters}`, check)
  /** A size and, into memory of that size, the text or image it is the size of. */
  const sized = <Args extends readonly unknown[]>(name: string, parameter: string) =>
    checked<Args>(`${name}(nvrtcProgram prog, ${parameter})`)

  return {
    path,
    nvrtcVersion: checked<[major: Out<number>, minor: Out<number>]>(
      'nvrtcVersion(_Out_ int *major, _Out_ int *minor)',
    ),
    nvrtcGetNumSupportedArchs: checked<[count: Out<number>]>(
      'nvrtcGetNumSupportedArchs(_Out_ int *numArchs)',
    ),
    /** `architectures` i32 [count] is written into: 90 for sm_90. */
    nvrtcGetSupportedArchs: checked<[architectures: Int32Array]>(
      'nvrtcGetSupportedArchs(_Out_ int *supportedArchs)',
    ),
    /** `headers` are sources, `includeNames` what an #include calls them. */
    nvrtcCreateProgram: checked<
      [
        program: Out<NvrtcProgram>,
        source: string,
        name: string,
        headerCount: number,
        headers: readonly string[],
        includeNames: readonly string[],
      ]
    >(
      'nvrtcCreateProgram(_Out_ nvrtcProgram *prog, const char *src, const char *name, int numHeaders, const char **headers, const char **includeNames)',
    ),
    nvrtcDestroyProgram: checked<[program: [NvrtcProgram]]>('nvrtcDestroyProgram(nvrtcProgram *prog)'),
    nvrtcCompileProgram: library.declare<
      [program: NvrtcProgram, optionCount: number, options: readonly string[]],
      number,
      boolean
    >(
      'nvrtcResult nvrtcCompileProgram(nvrtcProgram prog, int numOptions, const char **options)',
      checkCompiled,
    ),
    nvrtcGetProgramLogSize: sized<[program: NvrtcProgram, bytes: Out<number>]>(
      'nvrtcGetProgramLogSize',
      '_Out_ size_t *logSizeRet',
    ),
    nvrtcGetProgramLog: sized<[program: NvrtcProgram, log: Uint8Array]>(
      'nvrtcGetProgramLog',
      '_Out_ char *log',
    ),
    nvrtcGetCUBINSize: sized<[program: NvrtcProgram, bytes: Out<number>]>(
      'nvrtcGetCUBINSize',
      '_Out_ size_t *cubinSizeRet',
    ),
    nvrtcGetCUBIN: sized<[program: NvrtcProgram, cubin: Uint8Array]>('nvrtcGetCUBIN', '_Out_ char *cubin'),
    nvrtcGetPTXSize: sized<[program: NvrtcProgram, bytes: Out<number>]>(
      'nvrtcGetPTXSize',
      '_Out_ size_t *ptxSizeRet',
    ),
    nvrtcGetPTX: sized<[program: NvrtcProgram, ptx: Uint8Array]>('nvrtcGetPTX', '_Out_ char *ptx'),
  }
}
