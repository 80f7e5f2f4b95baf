/** Where TensorRT's methods stand in its virtual tables, for each major version; from NvInferImpl.h and NvOnnxParser.h,
 * 10.0 to 10.16 (which only append) and 11.1.
 *
 * A public object holds `mImpl` at byte 8. That points to the object with the methods, whose table begins with the two
 * entries of the destructor; positions count from there. */
import type { Pointer } from '../library.ts'
import type { NativeDims } from './dims.ts'

export const tensorrtMajors = [10, 11] as const
export type TensorrtMajor = (typeof tensorrtMajors)[number]

/** Position of a method in TensorRT 10 and in 11, and its C prototype. */
type Declaration = readonly [ten: number, eleven: number, prototype: string]

/** For messages the key is written as in C++: IBuilder::createNetworkV2. */
export const methodTable = {
  // A read without effect: proves the table on the objects made first.
  'IBuilder::getMaxThreads': [16, 13, 'int32_t IBuilder_getMaxThreads(void *self)'],
  'IBuilder::createBuilderConfig': [5, 3, 'void *IBuilder_createBuilderConfig(void *self)'],
  'IBuilder::createNetworkV2': [6, 4, 'void *IBuilder_createNetworkV2(void *self, uint32_t flags)'],
  'IBuilder::createOptimizationProfile': [7, 5, 'void *IBuilder_createOptimizationProfile(void *self)'],
  'IBuilder::buildSerializedNetwork': [
    12,
    9,
    'void *IBuilder_buildSerializedNetwork(void *self, void *network, void *config)',
  ],
  'INetworkDefinition::getNbInputs': [12, 12, 'int32_t INetworkDefinition_getNbInputs(void *self)'],
  'INetworkDefinition::getInput': [13, 13, 'void *INetworkDefinition_getInput(void *self, int32_t index)'],
  'INetworkDefinition::getNbOutputs': [14, 14, 'int32_t INetworkDefinition_getNbOutputs(void *self)'],
  'INetworkDefinition::getOutput': [15, 15, 'void *INetworkDefinition_getOutput(void *self, int32_t index)'],
  'ITensor::getName': [1, 1, 'const char *ITensor_getName(void *self)'],
  'ITensor::getDimensions': [3, 3, 'nvinfer1_Dims ITensor_getDimensions(void *self)'],
  'ITensor::getType': [5, 4, 'int32_t ITensor_getType(void *self)'],
  'IBuilderConfig::setFlag': [9, 7, 'void IBuilderConfig_setFlag(void *self, int32_t flag)'],
  'IBuilderConfig::getFlag': [10, 8, 'bool IBuilderConfig_getFlag(void *self, int32_t flag)'],
  'IBuilderConfig::addOptimizationProfile': [
    23,
    21,
    'int32_t IBuilderConfig_addOptimizationProfile(void *self, void *profile)',
  ],
  'IBuilderConfig::setProfilingVerbosity': [
    25,
    23,
    'void IBuilderConfig_setProfilingVerbosity(void *self, int32_t verbosity)',
  ],
  'IBuilderConfig::setTacticSources': [
    36,
    25,
    'bool IBuilderConfig_setTacticSources(void *self, uint32_t sources)',
  ],
  'IBuilderConfig::getTacticSources': [37, 26, 'uint32_t IBuilderConfig_getTacticSources(void *self)'],
  'IBuilderConfig::createTimingCache': [
    38,
    27,
    'void *IBuilderConfig_createTimingCache(void *self, const void *blob, size_t bytes)',
  ],
  'IBuilderConfig::setTimingCache': [
    39,
    28,
    'bool IBuilderConfig_setTimingCache(void *self, void *cache, bool ignoreMismatch)',
  ],
  'IBuilderConfig::setMemoryPoolLimit': [
    41,
    30,
    'void IBuilderConfig_setMemoryPoolLimit(void *self, int32_t pool, size_t bytes)',
  ],
  'IBuilderConfig::getMemoryPoolLimit': [
    42,
    31,
    'size_t IBuilderConfig_getMemoryPoolLimit(void *self, int32_t pool)',
  ],
  'IBuilderConfig::setBuilderOptimizationLevel': [
    45,
    34,
    'void IBuilderConfig_setBuilderOptimizationLevel(void *self, int32_t level)',
  ],
  'IBuilderConfig::getBuilderOptimizationLevel': [
    46,
    35,
    'int32_t IBuilderConfig_getBuilderOptimizationLevel(void *self)',
  ],
  'IBuilderConfig::setProgressMonitor': [
    54,
    43,
    'void IBuilderConfig_setProgressMonitor(void *self, void *monitor)',
  ],
  'IOptimizationProfile::setDimensions': [
    0,
    0,
    'bool IOptimizationProfile_setDimensions(void *self, const char *name, int32_t selector, const void *dims)',
  ],
  'IHostMemory::data': [0, 0, 'void *IHostMemory_data(void *self)'],
  'IHostMemory::size': [1, 1, 'size_t IHostMemory_size(void *self)'],
  'ITimingCache::serialize': [0, 0, 'void *ITimingCache_serialize(void *self)'],
  'ITimingCache::combine': [1, 1, 'bool ITimingCache_combine(void *self, void *other, bool ignoreMismatch)'],
  'IRuntime::getMaxThreads': [11, 10, 'int32_t IRuntime_getMaxThreads(void *self)'],
  'IRuntime::deserializeCudaEngine': [
    1,
    1,
    'void *IRuntime_deserializeCudaEngine(void *self, const void *blob, size_t bytes)',
  ],
  'ICudaEngine::createExecutionContext': [
    3,
    3,
    'void *ICudaEngine_createExecutionContext(void *self, int32_t strategy)',
  ],
  'ICudaEngine::getNbOptimizationProfiles': [
    8,
    6,
    'int32_t ICudaEngine_getNbOptimizationProfiles(void *self)',
  ],
  'ICudaEngine::createEngineInspector': [16, 12, 'void *ICudaEngine_createEngineInspector(void *self)'],
  'ICudaEngine::getTensorShape': [
    17,
    13,
    'nvinfer1_Dims ICudaEngine_getTensorShape(void *self, const char *name)',
  ],
  'ICudaEngine::getTensorDataType': [
    18,
    14,
    'int32_t ICudaEngine_getTensorDataType(void *self, const char *name)',
  ],
  'ICudaEngine::getTensorIOMode': [
    21,
    17,
    'int32_t ICudaEngine_getTensorIOMode(void *self, const char *name)',
  ],
  'ICudaEngine::getProfileShape': [
    27,
    23,
    'nvinfer1_Dims ICudaEngine_getProfileShape(void *self, const char *name, int32_t profile, int32_t selector)',
  ],
  'ICudaEngine::getNbIOTensors': [28, 24, 'int32_t ICudaEngine_getNbIOTensors(void *self)'],
  'ICudaEngine::getIOTensorName': [
    29,
    25,
    'const char *ICudaEngine_getIOTensorName(void *self, int32_t index)',
  ],
  // Since 10.1.
  'ICudaEngine::getDeviceMemorySizeV2': [50, 42, 'int64_t ICudaEngine_getDeviceMemorySizeV2(void *self)'],
  'IExecutionContext::setOptimizationProfileAsync': [
    15,
    14,
    'bool IExecutionContext_setOptimizationProfileAsync(void *self, int32_t profile, void *stream)',
  ],
  'IExecutionContext::setInputShape': [
    19,
    18,
    'bool IExecutionContext_setInputShape(void *self, const char *name, const void *dims)',
  ],
  'IExecutionContext::getTensorShape': [
    20,
    19,
    'nvinfer1_Dims IExecutionContext_getTensorShape(void *self, const char *name)',
  ],
  'IExecutionContext::setTensorAddress': [
    22,
    21,
    'bool IExecutionContext_setTensorAddress(void *self, const char *name, void *data)',
  ],
  // Since 10.1.
  'IExecutionContext::setDeviceMemoryV2': [
    47,
    46,
    'void IExecutionContext_setDeviceMemoryV2(void *self, void *memory, int64_t bytes)',
  ],
  'IExecutionContext::enqueueV3': [35, 34, 'bool IExecutionContext_enqueueV3(void *self, void *stream)'],
  'IEngineInspector::getEngineInformation': [
    4,
    4,
    'const char *IEngineInspector_getEngineInformation(void *self, int32_t format)',
  ],
  // The parser's objects hold no mImpl, and their tables begin with the first method.
  'IParser::parseFromFile': [1, 1, 'bool IParser_parseFromFile(void *self, const char *path, int verbosity)'],
  'IParser::getNbErrors': [5, 3, 'int IParser_getNbErrors(void *self)'],
  'IParser::getError': [6, 4, 'void *IParser_getError(void *self, int index)'],
  'IParserError::code': [0, 0, 'int IParserError_code(void *self)'],
  'IParserError::desc': [1, 1, 'const char *IParserError_desc(void *self)'],
  'IParserError::node': [5, 5, 'int IParserError_node(void *self)'],
  'IParserError::nodeName': [6, 6, 'const char *IParserError_nodeName(void *self)'],
  'IParserError::nodeOperator': [7, 7, 'const char *IParserError_nodeOperator(void *self)'],
} as const satisfies Readonly<Record<string, Declaration>>

export type MethodName = keyof typeof methodTable

/** What a method gives, by its prototype. */
export type MethodResult<Name extends MethodName> = ResultOf<(typeof methodTable)[Name][2]>

type ResultOf<Prototype extends string> = Prototype extends `void *${string}`
  ? Pointer | null
  : Prototype extends `const char *${string}`
    ? string | null
    : Prototype extends `bool ${string}`
      ? boolean
      : Prototype extends `nvinfer1_Dims ${string}`
        ? NativeDims
        : Prototype extends `size_t ${string}` | `int64_t ${string}`
          ? number | bigint
          : Prototype extends `void ${string}`
            ? void
            : number

/** The deleting destructor, of public objects and of the parser, in TensorRT 10 and 11. */
export const destructorTable = {
  object: [1, 1],
  IParser: [9, 7],
} as const

/** Whether methods stand on the object itself instead of its mImpl. */
export function standsAlone(method: MethodName): boolean {
  return method.startsWith('IParser')
}
