/** The one file that names koffi: shared libraries, their functions, and views over native memory. */
import * as koffi from 'koffi'

try {
  koffi.config({
    // The 128 KiB default of asynchronous calls overflows in compilers and kills the process without a word.
    async_stack_size: 16 << 20,
    async_heap_size: 1 << 20,
    sync_stack_size: 8 << 20,
    resident_async_pools: 2,
  })
} catch {
  // The application that uses this package has loaded a library through koffi before: its sizes stay.
}

type RawFunction = ReturnType<koffi.LibraryHandle['func']>

declare const pointee: unique symbol
/** An address; the name keeps a handle of one C type from being passed as another. */
export type Pointer<Name extends string = 'void'> = bigint & { readonly [pointee]: Name }

/** What an `_Out_ T *` parameter is given: the callee's value lands in the only element. */
export type Out<Value> = [Value | null]

export interface NativeFunction<Args extends readonly unknown[], Result> {
  (...args: Args): Result
  /** The same on a thread of koffi's; pointers and typed arrays given must stay alive until it settles. */
  readonly async: (...args: Args) => Promise<Result>
}

/** Turns what C returned into the result, or throws. `api` is the function's C name. */
export type ResultCheck<Raw, Result> = (raw: Raw, api: string) => Result

export interface NativeLibrary {
  readonly path: string
  /** Declares a function by its C prototype; without a check the raw value is the result. */
  declare<Args extends readonly unknown[], Result>(prototype: string): NativeFunction<Args, Result>
  declare<Args extends readonly unknown[], Raw, Result>(
    prototype: string,
    check: ResultCheck<Raw, Result>,
  ): NativeFunction<Args, Result>
}

/** koffi closes a library once its handle is collected, though pointers into it may live on. */
const openLibraries = new Map<string, koffi.LibraryHandle>()

/** Opens a shared library; it stays open until the process ends.
 * @throws {Error} with the loader's words when it cannot be opened or lacks a symbol */
export function loadLibrary(path: string): NativeLibrary {
  const library = openLibraries.get(path) ?? koffi.load(path)
  openLibraries.set(path, library)
  return {
    path,
    declare: <Args extends readonly unknown[], Raw, Result>(
      prototype: string,
      check?: ResultCheck<Raw, Result>,
    ) => wrap<Args, Raw, Result>(library.func(prototype), nameOf(prototype), check),
  }
}

/** A function table that is made at the first call for a path and kept; a failure is not.
 * @param declare told how many tables there are already, for names that must differ */
export function oncePerPath<Table>(
  declare: (path: string, earlierCount: number) => Table,
): (path: string) => Table {
  const tables = new Map<string, Table>()
  return (path) => {
    const known = tables.get(path)
    if (known !== undefined) return known
    const table = declare(path, tables.size)
    tables.set(path, table)
    return table
  }
}

/** Declares the function that a pointer leads to, such as an entry of a function table. */
export function declareAt<Args extends readonly unknown[], Raw, Result>(
  pointer: Pointer<string>,
  prototype: string,
  check?: ResultCheck<Raw, Result>,
): NativeFunction<Args, Result> {
  const raw = koffi.decode(pointer, prototypeOf(prototype)) as RawFunction
  return wrap<Args, Raw, Result>(raw, nameOf(prototype), check)
}

/** koffi knows a prototype by its name, once a process. */
const prototypes = new Map<string, koffi.TypeObject>()

function prototypeOf(prototype: string): koffi.TypeObject {
  const known = prototypes.get(prototype) ?? koffi.proto(prototype)
  prototypes.set(prototype, known)
  return known
}

/** A function pointer that C can call, valid until the process ends. A call from another thread waits there until the
 * event loop turns: what makes such calls must itself run in asynchronous form. `run` must not throw. */
export function declareCallback(prototype: string, run: (...args: never[]) => unknown): Pointer {
  return koffi.register(run, koffi.pointer(prototypeOf(prototype))) as Pointer
}

/** Makes C type names known to prototypes as opaque structs. Once a process and name. */
export function declareOpaque(...names: readonly string[]): void {
  for (const name of names) koffi.opaque(name)
}

/** Makes an enum known to prototypes: an `int` under its C name. */
export function declareEnum(...names: readonly string[]): void {
  for (const name of names) koffi.alias(name, 'int')
}

/** Makes pointer types to opaque structs known to prototypes: C's `typedef struct X_st *X`. */
export function declareHandle(...names: readonly string[]): void {
  for (const name of names) koffi.pointer(name, koffi.opaque(`${name}_st`))
}

/** Makes another name of a type known to prototypes: C's `typedef type name`. */
export function declareAlias(name: string, type: string): void {
  koffi.alias(name, type)
}

/** Makes a struct known to prototypes; fields in C order, values are C types. */
export function declareStruct(name: string, fields: Readonly<Record<string, string>>): void {
  koffi.struct(name, fields)
}

/** A `const char *` that the callee hands over: read, then released by `free`. */
export function declareOwnedString(name: string, free: (pointer: bigint) => void): void {
  koffi.disposable(name, 'str', free)
}

/** Calls with a fresh `_Out_` slot and gives what landed in it. */
export function readOut<Value>(call: (out: Out<Value>) => void): Value {
  const out: Out<Value> = [null]
  call(out)
  return out[0] as Value
}

/** readOut for the asynchronous form. */
export async function readOutAsync<Value>(call: (out: Out<Value>) => Promise<void>): Promise<Value> {
  const out: Out<Value> = [null]
  await call(out)
  return out[0] as Value
}

/** The memory at `pointer` without a copy; the caller sees to it that it outlives the buffer's use. */
export function viewMemory(pointer: Pointer<string>, bytes: number): ArrayBuffer {
  return koffi.view(pointer, bytes)
}

/** The memory at `pointer` piece by piece, for more than an array can hold (4 GiB in Node 20). */
export function* viewPieces(
  pointer: Pointer<string>,
  bytes: number,
  pieceBytes: number,
): Generator<Uint8Array> {
  for (let at = 0; at < bytes; at += pieceBytes) {
    const piece = (pointer + BigInt(at)) as Pointer
    yield new Uint8Array(viewMemory(piece, Math.min(pieceBytes, bytes - at)))
  }
}

/** Where the bytes of `memory` are; it must stay referenced for as long as the address is used. */
export function addressOf(memory: ArrayBuffer): Pointer {
  return koffi.address(memory) as Pointer
}

/** `count` values of 64 bits at `pointer`, as numbers. */
export function readInt64s(pointer: Pointer<string>, count: number): number[] {
  return Array.from(new BigInt64Array(koffi.view(pointer, count * 8)), Number)
}

/** `count` structs of a declared type, one after the other at `pointer`. */
export function readStructs<Struct>(pointer: Pointer<string>, type: string, count: number): Struct[] {
  return koffi.decode(pointer, type, count) as Struct[]
}

/** The NUL-terminated UTF-8 text at `pointer`. */
export function readText(pointer: Pointer<string>): string {
  return koffi.decode(pointer, 'char', -1) as string
}

/** The pointer stored at `index` of the table at `table`. */
export function readPointer(table: Pointer<string>, index: number): Pointer {
  return koffi.decode(table, index * koffi.sizeof('void *'), 'void *') as Pointer
}

function wrap<Args extends readonly unknown[], Raw, Result>(
  raw: RawFunction,
  api: string,
  check: ResultCheck<Raw, Result> = (value) => value as unknown as Result,
): NativeFunction<Args, Result> {
  const call = (...args: Args) => check(raw(...args) as Raw, api)
  const async = (...args: Args) =>
    new Promise<Result>((resolve, reject) => {
      raw.async(...args, (error: unknown, value: Raw) => {
        if (error !== null && error !== undefined) {
          reject(error instanceof Error ? error : new Error(`${api}: koffi's call failed`))
          return
        }
        try {
          resolve(check(value, api))
        } catch (failure) {
          reject(failure)
        }
      })
    })
  return Object.assign(call, { async })
}

/** 'int f(void *x)' -> 'f' */
function nameOf(prototype: string): string {
  return prototype
    .slice(0, prototype.indexOf('('))
    .split(/[\s*]+/)
    .at(-1)!
}
