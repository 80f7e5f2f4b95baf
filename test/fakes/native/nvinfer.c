/* A libnvinfer and libnvonnxparser with the C entry points and table layout of TensorRT, and nothing behind them: every
 * call is logged with its arguments, every free too. TENSORRT_VERSION is what getInferLibVersion answers. What an engine made
 * of a described plan computes is the test's: see nvinfer-execution.h.
 *
 * Positions as g++ 12 places them for NvInferImpl.h and NvOnnxParser.h of 10.6 (first number) and 11.1 (second). */
#include "calls.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define IS_10 (TENSORRT_VERSION < 110000)
#define AT(ten, eleven) [2 + (IS_10 ? (ten) : (eleven))]
#define TABLE_SIZE 80

typedef struct { int32_t nbDims; int64_t d[8]; } Dims;
typedef struct { const char *kind; int32_t major, minor; } InterfaceInfo;
typedef void (*Method)(void);
typedef struct { Method *table; } Logger;

/* What `new` gives in C++, a public object: its table of destructors, then mImpl. */
typedef struct Impl { Method *table; struct Object *object; } Impl;
typedef struct Object { Method *table; Impl *impl; const char *type; void *data; } Object;

static Logger *logger;
static int live;
static struct {
  int fail_build, fail_engine, fail_create, bad_threads, parse_errors, reject_shape, quiet;
  /* 1: plans describe themselves, output pooled; 2: output tokens */
  int describe;
  /* Each step of a build takes so long. */
  int step_ms;
} mode;

/* What the test calls. */
int fake_live(void) { return live; }
void fake_mode(const char *name, int value) {
#define MODE(field) if (strcmp(name, #field) == 0) mode.field = value
  MODE(fail_build);
  MODE(fail_engine);
  MODE(fail_create);
  MODE(bad_threads);
  MODE(parse_errors);
  MODE(reject_shape);
  MODE(quiet);
  MODE(describe);
  MODE(step_ms);
}
/* The same for a process of its own: FAKE_NVINFER="describe=2 step_ms=50" */
__attribute__((constructor)) static void read_environment(void) {
  char name[40];
  int value, used;
  const char *text = getenv("FAKE_NVINFER");
  for (; text != NULL && sscanf(text, " %39[a-z_]=%d%n", name, &value, &used) == 2; text += used) fake_mode(name, value);
}

static void say(int severity, const char *message) {
  if (mode.quiet) return;
  ((void (*)(void *, int, const char *))logger->table[IS_10 ? 0 : 4])(logger, severity, message);
}
static void wrong(void) {
  log_call("WRONG TABLE ENTRY", "%s", "");
}

static Method *table_of(void) {
  Method *table = malloc(TABLE_SIZE * sizeof *table);
  for (int i = 0; i < TABLE_SIZE; i++) table[i] = wrong;
  return table;
}
static void free_data(Object *object);
static void delete_object(Object *object) {
  log_call("delete", "%s", object->type);
  live--;
  free_data(object);
  memset(object->impl, 0xdd, sizeof *object->impl);
  free(object->impl);
  memset(object, 0xdd, sizeof *object);
  free(object);
}
static Object *new_object(const char *type, const Method *methods) {
  Object *object = malloc(sizeof *object);
  object->table = table_of();
  object->table[1] = (Method)delete_object;
  object->impl = malloc(sizeof *object->impl);
  object->impl->table = table_of();
  for (int i = 2; i < TABLE_SIZE; i++) {
    if (methods[i] != NULL) object->impl->table[i] = methods[i];
  }
  object->impl->object = object;
  object->type = type;
  object->data = NULL;
  live++;
  return object;
}
static void show(const char *name, const char *what, const Dims *dims) {
  char text[200] = "";
  for (int i = 0; i < dims->nbDims; i++) {
    snprintf(text + strlen(text), sizeof text - strlen(text), i == 0 ? "%lld" : "x%lld", (long long)dims->d[i]);
  }
  log_call(name, "%s %s", what, text);
}
static Dims dims2(int64_t a, int64_t b) { return (Dims){2, {a, b}}; }

#include "nvinfer-build.h"

/* Memory */
static char plan[] = "a plan of 17 byte";
static char *memory_text(Impl *self) { return self->object->data == NULL ? plan : self->object->data; }
static void *memory_data(Impl *self) { return memory_text(self); }
static size_t memory_size(Impl *self) { return strlen(memory_text(self)); }
static const Method memory_methods[TABLE_SIZE] = {AT(0, 0) = (Method)memory_data, AT(1, 1) = (Method)memory_size};

/* Tensors of a network */
static const char *tensor_name(Impl *self) { return self->object->type; }
static Dims tensor_dims(Impl *self) { (void)self; return dims2(-1, mode.describe ? -1 : 384); }
static int tensor_type(Impl *self) { return self->object->type[0] == 'e' ? 0 : 8; }
static const Method tensor_methods[TABLE_SIZE] = {
    AT(1, 1) = (Method)tensor_name, AT(3, 3) = (Method)tensor_dims, AT(5, 4) = (Method)tensor_type};
static Object *tensors[3];
static Object *tensor(int i) {
  static const char *names[] = {"input_ids", "attention_mask", "embedding"};
  if (tensors[i] == NULL) {
    tensors[i] = new_object(names[i], tensor_methods);
    live--; /* the network's */
  }
  return tensors[i];
}

/* Network */
static int network_inputs(Impl *self) { (void)self; return 2; }
static void *network_input(Impl *self, int index) { (void)self; return tensor(index); }
static int network_outputs(Impl *self) { (void)self; return 1; }
static void *network_output(Impl *self, int index) { (void)self; return tensor(2 + index); }
static const Method network_methods[TABLE_SIZE] = {AT(12, 12) = (Method)network_inputs,
                                                   AT(13, 13) = (Method)network_input,
                                                   AT(14, 14) = (Method)network_outputs,
                                                   AT(15, 15) = (Method)network_output};

/* Timing cache */
static void *cache_serialize(Impl *self) {
  log_call("ITimingCache::serialize", "%s", "");
  Object *memory = new_object("IHostMemory", memory_methods);
  if (mode.describe) memory->data = strdup(self->object->data);
  return memory;
}
static bool cache_combine(Impl *self, Object *other, bool ignore) {
  log_call("ITimingCache::combine", "%s %d", other->type, ignore);
  if (mode.describe) {
    char *both = text_of("%s%s", (char *)self->object->data, (char *)other->data);
    free(self->object->data);
    self->object->data = both;
  }
  return true;
}
static const Method cache_methods[TABLE_SIZE] = {
    AT(0, 0) = (Method)cache_serialize, AT(1, 1) = (Method)cache_combine};

/* Profile: freed by its builder */
static bool profile_set(Impl *self, const char *name, int selector, const Dims *dims) {
  if (mode.describe) keep_shape(self->object, name, selector, dims);
  char what[100];
  snprintf(what, sizeof what, "%s %d", name, selector);
  show("IOptimizationProfile::setDimensions", what, dims);
  if (mode.reject_shape) say(1, "dimensions out of order");
  return !mode.reject_shape;
}
static const Method profile_methods[TABLE_SIZE] = {AT(0, 0) = (Method)profile_set};

/* Configuration */
static int level = 3, profiles;
static size_t workspace = 7ull << 33;
static uint32_t tactics = 24, flags;
static void config_set_flag(Impl *self, int flag) { (void)self; flags |= 1u << flag; }
static bool config_get_flag(Impl *self, int flag) { (void)self; return flags >> flag & 1; }
static int config_add_profile(Impl *self, Object *profile) {
  (void)self;
  log_call("IBuilderConfig::addOptimizationProfile", "%s", profile->type);
  keep_profile(profile);
  return mode.reject_shape ? -1 : profiles++;
}
static void config_verbosity(Impl *self, int verbosity) {
  (void)self;
  log_call("IBuilderConfig::setProfilingVerbosity", "%d", verbosity);
}
static bool config_set_tactics(Impl *self, uint32_t sources) {
  (void)self;
  if (sources == 0) say(1, "no tactic source is left");
  else tactics = sources;
  return sources != 0;
}
static uint32_t config_get_tactics(Impl *self) { (void)self; return tactics; }
static Object *timing_cache;
static void *config_create_cache(Impl *self, const void *blob, size_t bytes) {
  (void)self;
  log_call("IBuilderConfig::createTimingCache", "%zu %.*s", bytes, (int)bytes, (const char *)blob);
  if (bytes >= 3 && memcmp(blob, "bad", 3) == 0) {
    say(1, "the timing cache is damaged");
    return NULL;
  }
  Object *cache = new_object("ITimingCache", cache_methods);
  if (mode.describe) cache->data = text_of("%.*s", (int)bytes, (const char *)blob);
  return cache;
}
static bool config_set_cache(Impl *self, Object *cache, bool ignore) {
  (void)self;
  log_call("IBuilderConfig::setTimingCache", "%s %d", cache->type, ignore);
  timing_cache = cache;
  return true;
}
static void config_set_limit(Impl *self, int pool, size_t bytes) {
  (void)self;
  log_call("IBuilderConfig::setMemoryPoolLimit", "%d", pool);
  workspace = bytes;
}
static size_t config_get_limit(Impl *self, int pool) { (void)self; return pool == 0 ? workspace : 0; }
static void config_set_level(Impl *self, int value) { (void)self; level = value; }
static Logger *monitor; /* an object with a table, as the logger is */
static void config_set_monitor(Impl *self, Logger *given) { (void)self; monitor = given; }
static int config_get_level(Impl *self) { (void)self; return level; }
static const Method config_methods[TABLE_SIZE] = {
    AT(9, 7) = (Method)config_set_flag,       AT(10, 8) = (Method)config_get_flag,
    AT(23, 21) = (Method)config_add_profile,  AT(25, 23) = (Method)config_verbosity,
    AT(36, 25) = (Method)config_set_tactics,  AT(37, 26) = (Method)config_get_tactics,
    AT(38, 27) = (Method)config_create_cache, AT(39, 28) = (Method)config_set_cache,
    AT(41, 30) = (Method)config_set_limit,    AT(42, 31) = (Method)config_get_limit,
    AT(45, 34) = (Method)config_set_level,    AT(46, 35) = (Method)config_get_level,
    AT(54, 43) = (Method)config_set_monitor};

/* Builder */
static Object *builder_profile;
static int builder_threads(Impl *self) { (void)self; return mode.bad_threads ? -559038737 : 1; }
static void *builder_config(Impl *self) {
  (void)self;
  built_profile_count = 0;
  return new_object("IBuilderConfig", config_methods);
}
static void *builder_network(Impl *self, uint32_t network_flags) {
  (void)self;
  log_call("IBuilder::createNetworkV2", "%u", network_flags);
  return new_object("INetworkDefinition", network_methods);
}
static void *builder_make_profile(Impl *self) {
  (void)self;
  builder_profile = new_object("IOptimizationProfile", profile_methods);
  live--; /* the builder's */
  return builder_profile;
}
/* Two steps within a phase within another; false when told to stop. */
static bool report_progress(void) {
  if (monitor == NULL) return true;
  InterfaceInfo info = ((InterfaceInfo(*)(void *))monitor->table[1])(monitor);
  log_call("monitor", "%s %d.%d", info.kind, info.major, info.minor);
  void (*start)(void *, const char *, const char *, int) = (void *)monitor->table[4];
  bool (*step)(void *, const char *, int) = (void *)monitor->table[5];
  void (*finish)(void *, const char *) = (void *)monitor->table[6];
  start(monitor, "Building Engine", NULL, 4);
  start(monitor, "Tactics", "Building Engine", 2);
  usleep(mode.step_ms * 1000);
  bool go_on = step(monitor, "Tactics", 0);
  usleep(mode.step_ms * 1000);
  go_on = go_on && step(monitor, "Tactics", 1);
  finish(monitor, "Tactics");
  finish(monitor, "Building Engine");
  return go_on;
}
static bool was_stopped;
/* As TensorRT does: threads of its own that log. */
static void *build_thread(void *unused) {
  (void)unused;
  say(4, "trying a tactic");
  say(3, "[MemUsageChange] building");
  say(2, "a weight is subnormal");
  usleep(50000);
  was_stopped = !report_progress();
  if (mode.fail_build == 1) say(1, "IBuilder::buildSerializedNetwork: Error Code 10: workspace of 16 MiB is too small");
  if (mode.fail_build == 2) say(1, "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 9 bytes.)");
  return NULL;
}
static void *builder_build(Impl *self, Object *network, Object *config) {
  (void)self;
  log_call("IBuilder::buildSerializedNetwork", "%s %s", network->type, config->type);
  note_build();
  pthread_t thread;
  pthread_create(&thread, NULL, build_thread, NULL);
  pthread_join(thread, NULL);
  /* Both are still there. */
  log_call("built", "%s %s", network->type, config->type);
  if (mode.describe) {
    char *more = text_of("%s[build %d]", (char *)timing_cache->data, ++build_count);
    free(timing_cache->data);
    timing_cache->data = more;
  }
  if (mode.fail_build || was_stopped) return NULL;
  Object *memory = new_object("IHostMemory", memory_methods);
  if (mode.describe) memory->data = describe_build(level, workspace, tactics);
  return memory;
}
static const Method builder_methods[TABLE_SIZE] = {
    AT(16, 13) = (Method)builder_threads,     AT(5, 3) = (Method)builder_config,
    AT(6, 4) = (Method)builder_network,       AT(7, 5) = (Method)builder_make_profile,
    AT(12, 9) = (Method)builder_build};

/* Inspector, context */
static const char *inspector_information(Impl *self, int format) {
  (void)self;
  return format == 1 ? layers : "one line";
}
static const Method inspector_methods[TABLE_SIZE] = {AT(4, 4) = (Method)inspector_information};
#include "nvinfer-execution.h"

static bool context_profile(Impl *self, int profile, void *stream) {
  if (DESCRIBED(self)) return choose_profile(self->object->data, profile);
  log_call("IExecutionContext::setOptimizationProfileAsync", "%d %p", profile, stream);
  return true;
}
static bool context_shape(Impl *self, const char *name, const Dims *dims) {
  if (DESCRIBED(self)) return set_shape(self->object->data, name, dims);
  show("IExecutionContext::setInputShape", name, dims);
  if (mode.reject_shape) say(1, "IExecutionContext::setInputShape: Error Code 3: 64 is not in [1, 32]");
  return !mode.reject_shape;
}
static Dims context_get_shape(Impl *self, const char *name) {
  (void)self;
  return strcmp(name, "absent") == 0 ? (Dims){-1, {0}} : dims2(2, 384);
}
static bool context_address(Impl *self, const char *name, void *pointer) {
  if (DESCRIBED(self)) return set_address(self->object->data, name, pointer);
  log_call("IExecutionContext::setTensorAddress", "%s %p", name, pointer);
  return true;
}
static void context_memory(Impl *self, void *memory, int64_t bytes) {
  if (DESCRIBED(self)) set_memory(self->object->data, memory, bytes);
  else log_call("IExecutionContext::setDeviceMemoryV2", "%p %lld", memory, (long long)bytes);
}
static bool context_enqueue(Impl *self, void *stream) {
  if (DESCRIBED(self)) return run_described(self->object->data, stream);
  log_call("IExecutionContext::enqueueV3", "%p", stream);
  return stream != NULL;
}
static const Method context_methods[TABLE_SIZE] = {
    AT(15, 14) = (Method)context_profile, AT(19, 18) = (Method)context_shape,
    AT(20, 19) = (Method)context_get_shape, AT(22, 21) = (Method)context_address,
    AT(35, 34) = (Method)context_enqueue, AT(47, 46) = (Method)context_memory};

/* Engine, runtime */
static void *engine_context(Impl *self, int strategy) {
  if (DESCRIBED(self)) return described_context(self->object->data, strategy, context_methods);
  log_call("ICudaEngine::createExecutionContext", "%d", strategy);
  return new_object("IExecutionContext", context_methods);
}
static int engine_profiles(Impl *self) { return DESCRIBED(self) ? plan_of(self)->profile_count : 2; }
static void *engine_inspector(Impl *self) { (void)self; return new_object("IEngineInspector", inspector_methods); }
static Dims engine_shape(Impl *self, const char *name) {
  if (DESCRIBED(self)) return described_shape(plan_of(self), name);
  return strcmp(name, "embedding") == 0 ? dims2(-1, 384) : dims2(-1, -1);
}
static int engine_type(Impl *self, const char *name) {
  if (DESCRIBED(self)) return described_type(plan_of(self), name);
  return strcmp(name, "embedding") == 0 ? 0 : 8;
}
static int engine_mode(Impl *self, const char *name) {
  if (DESCRIBED(self)) return is_output(name) ? 2 : 1;
  return strcmp(name, "embedding") == 0 ? 2 : 1;
}
static Dims engine_profile_shape(Impl *self, const char *name, int profile, int selector) {
  if (DESCRIBED(self)) return described_profile(plan_of(self), name, profile, selector);
  log_call("ICudaEngine::getProfileShape", "%s %d %d", name, profile, selector);
  return dims2(1 << (profile * 2 + selector), 512);
}
static int engine_tensors(Impl *self) { (void)self; return 3; }
static const char *engine_tensor_name(Impl *self, int index) {
  static const char *names[] = {"input_ids", "attention_mask", "embedding"};
  return DESCRIBED(self) ? described_name(plan_of(self), index) : names[index];
}
static int64_t engine_memory(Impl *self) { return DESCRIBED(self) ? plan_of(self)->context_bytes : 5ll << 30; }
static const Method engine_methods[TABLE_SIZE] = {
    AT(3, 3) = (Method)engine_context,        AT(8, 6) = (Method)engine_profiles,
    AT(16, 12) = (Method)engine_inspector,    AT(17, 13) = (Method)engine_shape,
    AT(18, 14) = (Method)engine_type,         AT(21, 17) = (Method)engine_mode,
    AT(27, 23) = (Method)engine_profile_shape, AT(28, 24) = (Method)engine_tensors,
    AT(29, 25) = (Method)engine_tensor_name,  AT(50, 42) = (Method)engine_memory};
static void *runtime_deserialize(Impl *self, const void *blob, size_t bytes) {
  (void)self;
  log_call("IRuntime::deserializeCudaEngine", "%zu %.*s", bytes, bytes > 100 ? 100 : (int)bytes, (const char *)blob);
  if (mode.fail_engine == 1) say(1, "The engine plan file is not compatible with this version of TensorRT");
  if (mode.fail_engine == 2) say(1, "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (out of memory)");
  if (mode.fail_engine) return NULL;
  Object *engine = new_object("ICudaEngine", engine_methods);
  engine->data = describe(blob, bytes);
  return engine;
}
static int runtime_threads(Impl *self) { (void)self; return mode.bad_threads ? 0 : 1; }
static const Method runtime_methods[TABLE_SIZE] = {
    AT(1, 1) = (Method)runtime_deserialize, AT(11, 10) = (Method)runtime_threads};

/* The C entry points of libnvinfer */
int32_t getInferLibVersion(void) { return TENSORRT_VERSION; }
static void *create(const char *type, const Method *methods, void *given, int version) {
  logger = given;
  log_call("create", "%s %d", type, version);
  if (!IS_10) {
    InterfaceInfo info = ((InterfaceInfo(*)(void *))logger->table[1])(logger);
    int language = ((int (*)(void *))logger->table[0])(logger);
    log_call("logger", "%s %d.%d language %d", info.kind, info.major, info.minor, language);
  }
  if (mode.fail_create) {
    say(1, "CUDA initialization failure with error: 35");
    return (void *)512;
  }
  say(3, "created");
  return new_object(type, methods);
}
void *createInferBuilder_INTERNAL(void *given, int version) {
  return create("IBuilder", builder_methods, given, version);
}
void *createInferRuntime_INTERNAL(void *given, int version) {
  return create("IRuntime", runtime_methods, given, version);
}

/* libnvonnxparser: no mImpl, methods from the first entry of the object's own table */
#define ALONE(ten, eleven) (IS_10 ? (ten) : (eleven))
typedef struct { Method *table; int number; } Alone;
static int error_code(Alone *self) { return 8 - self->number; }
static const char *error_desc(Alone *self) {
  return self->number == 0 ? "no importer registered for op: NonZeroish" : "Failed to open file";
}
static int error_node(Alone *self) { return self->number == 0 ? 17 : -1; }
static const char *error_name(Alone *self) { return self->number == 0 ? "/encoder/NonZeroish_3" : ""; }
static const char *error_operator(Alone *self) { return self->number == 0 ? "NonZeroish" : ""; }
static bool parser_parse(Alone *self, const char *path, int verbosity) {
  (void)self;
  log_call("IParser::parseFromFile", "%s %d", path, verbosity);
  if (mode.fail_create) say(1, "ModelImporter: could not parse the file");
  return mode.parse_errors == 0 && !mode.fail_create;
}
static int parser_errors(Alone *self) { (void)self; return mode.parse_errors; }
static void *parser_error(Alone *self, int index) {
  (void)self;
  static Alone errors[2];
  errors[index].table = table_of();
  errors[index].number = index;
  Method *table = errors[index].table;
  table[0] = (Method)error_code;
  table[1] = (Method)error_desc;
  table[5] = (Method)error_node;
  table[6] = (Method)error_name;
  table[7] = (Method)error_operator;
  return &errors[index];
}
static void parser_delete(Alone *self) {
  log_call("delete", "%s", "IParser");
  live--;
  free(self);
}
void *createNvOnnxParser_INTERNAL(Object *network, void *given, int version) {
  log_call("create", "IParser %s %d %s", network->type, version, given == (void *)logger ? "same logger" : "OTHER LOGGER");
  Alone *parser = malloc(sizeof *parser);
  parser->table = table_of();
  parser->table[1] = (Method)parser_parse;
  parser->table[ALONE(5, 3)] = (Method)parser_errors;
  parser->table[ALONE(6, 4)] = (Method)parser_error;
  parser->table[ALONE(9, 7)] = (Method)parser_delete;
  live++;
  return parser;
}
