/* Engines of a plan that describes itself, a text of a few lines:
 *   fakeplan OUTPUT INPUTS DIMENSIONS CONTEXT_BYTES     OUTPUT: pooled or tokens   INPUTS: ids or embeddings
 *   PROFILE: min opt max of the batch size, then of the tokens; one line each
 * Contexts check what TensorRT checks; what an enqueue computes is up to the callback that a test sets. Without one it
 * computes at once, on memory that the CPU sees (cuda.c), what test/fakes/tensorrt.ts calls textVector. */
#include <math.h>

typedef struct {
  bool is_pooled, takes_ids;
  int dimensions, profile_count;
  int64_t context_bytes;
  int64_t profiles[16][6];
} Plan;

typedef struct {
  const Plan *plan;
  int profile;
  bool brings_memory;
  int64_t rows, tokens;
  void *ids, *mask, *out, *memory;
  int64_t memory_bytes;
  /* Grows with each change: a recording of an earlier state is no longer valid. */
  int64_t generation;
} Context;

/* false: the enqueue fails. */
typedef bool (*Enqueue)(Context *context, int64_t generation, bool is_pooled, bool takes_ids, int dimensions,
                        int profile, int64_t rows, int64_t tokens, void *ids, void *mask, void *out, void *memory,
                        void *stream);
static Enqueue on_enqueue;
void fake_on_enqueue(Enqueue callback) { on_enqueue = callback; }
int64_t fake_generation(const Context *context) { return context->generation; }

static void free_data(Object *object) {
  /* A context is marked instead, so that a recording that outlives it is noticed. */
  if (object->data != NULL && strcmp(object->type, "IExecutionContext") == 0) ((Context *)object->data)->generation = -1;
  else free(object->data);
}

#define DESCRIBED(self) ((self)->object->data != NULL)
static const Plan *plan_of(Impl *self) { return self->object->data; }

static Plan *describe(const void *blob, size_t bytes) {
  char text[2000] = "", output[20], inputs[20];
  memcpy(text, blob, bytes < sizeof text ? bytes : sizeof text - 1);
  long long memory;
  Plan *plan = calloc(1, sizeof *plan);
  char *at = text;
  int used = 0;
  if (sscanf(at, "fakeplan %19s %19s %d %lld%n", output, inputs, &plan->dimensions, &memory, &used) != 4) {
    free(plan);
    return NULL;
  }
  plan->is_pooled = strcmp(output, "pooled") == 0;
  plan->takes_ids = strcmp(inputs, "ids") == 0;
  plan->context_bytes = memory;
  for (at += used; plan->profile_count < 16; at += used) {
    long long p[6];
    if (sscanf(at, "%lld %lld %lld %lld %lld %lld%n", p, p + 1, p + 2, p + 3, p + 4, p + 5, &used) != 6) break;
    for (int i = 0; i < 6; i++) plan->profiles[plan->profile_count][i] = p[i];
    plan->profile_count++;
  }
  return plan;
}

static const char *described_name(const Plan *plan, int index) {
  if (index == 0) return plan->takes_ids ? "input_ids" : "inputs_embeds";
  if (index == 1) return "attention_mask";
  return plan->is_pooled ? "sentence_embedding" : "last_hidden_state";
}
static bool is_output(const char *name) {
  return strcmp(name, "sentence_embedding") == 0 || strcmp(name, "last_hidden_state") == 0;
}
static Dims described_shape(const Plan *plan, const char *name) {
  if (strcmp(name, "sentence_embedding") == 0) return dims2(-1, plan->dimensions);
  if (is_output(name) || strcmp(name, "inputs_embeds") == 0) return (Dims){3, {-1, -1, plan->dimensions}};
  return dims2(-1, -1);
}
static int described_type(const Plan *plan, const char *name) {
  (void)plan;
  return is_output(name) ? 0 : strcmp(name, "inputs_embeds") == 0 ? 7 : 8;
}
static Dims described_profile(const Plan *plan, const char *name, int profile, int selector) {
  Dims dims = described_shape(plan, name);
  dims.d[0] = plan->profiles[profile][selector];
  dims.d[1] = plan->profiles[profile][3 + selector];
  return dims;
}

static Object *described_context(const Plan *plan, int strategy, const Method *methods) {
  Object *object = new_object("IExecutionContext", methods);
  Context *context = calloc(1, sizeof *context);
  context->plan = plan;
  context->brings_memory = strategy != 2;
  object->data = context;
  return object;
}
static bool choose_profile(Context *context, int profile) {
  if (profile < 0 || profile >= context->plan->profile_count) {
    say(1, "IExecutionContext::setOptimizationProfileAsync: Error Code 3: profile index out of range");
    return false;
  }
  context->profile = profile;
  context->rows = context->tokens = 0;
  context->generation++;
  return true;
}
static bool set_shape(Context *context, const char *name, const Dims *dims) {
  const int64_t *profile = context->plan->profiles[context->profile];
  int64_t rows = dims->d[0], tokens = dims->d[1];
  if (dims->nbDims != described_shape(context->plan, name).nbDims || rows < profile[0] || rows > profile[2] ||
      tokens < profile[3] || tokens > profile[5]) {
    char text[200];
    snprintf(text, sizeof text,
             "IExecutionContext::setInputShape: Error Code 3: %s: [%lld,%lld] is not within profile %d: [%lld,%lld] to "
             "[%lld,%lld]",
             name, (long long)rows, (long long)tokens, context->profile, (long long)profile[0],
             (long long)profile[3], (long long)profile[2], (long long)profile[5]);
    say(1, text);
    return false;
  }
  context->rows = rows;
  context->tokens = tokens;
  context->generation++;
  return true;
}
static bool set_address(Context *context, const char *name, void *pointer) {
  if (is_output(name)) context->out = pointer;
  else if (strcmp(name, "attention_mask") == 0) context->mask = pointer;
  else context->ids = pointer;
  context->generation++;
  return true;
}
static void set_memory(Context *context, void *memory, int64_t bytes) {
  context->memory = memory;
  context->memory_bytes = bytes;
}
static bool compute_here(const Context *context) {
  const int64_t *ids = context->ids, *mask = context->mask;
  int dimensions = context->plan->dimensions;
  for (int64_t row = 0; row < context->rows; row++) {
    for (int k = 0; k < dimensions; k++) {
      double sum = 0;
      int count = 0;
      for (int64_t position = 0; position < context->tokens; position++) {
        int64_t cell = row * context->tokens + position;
        double value = sin((ids[cell] + 1) * (k + 1) * 0.37 + position * 0.01);
        if (!context->plan->is_pooled) ((float *)context->out)[cell * dimensions + k] = mask[cell] ? value : 1e6;
        if (mask[cell]) sum += value, count++;
      }
      if (context->plan->is_pooled) ((float *)context->out)[row * dimensions + k] = sum / count;
    }
  }
  return true;
}
static bool run_described(Context *context, void *stream) {
  const char *missing = context->rows == 0                                       ? "no shape"
                        : !context->ids || !context->mask || !context->out       ? "an address is not set"
                        : !context->brings_memory && !context->memory            ? "no device memory"
                        : !context->brings_memory && context->memory_bytes < context->plan->context_bytes
                            ? "the device memory is too small"
                            : NULL;
  const Plan *plan = context->plan;
  if (missing == NULL && on_enqueue == NULL) return compute_here(context);
  if (missing == NULL &&
      on_enqueue(context, context->generation, plan->is_pooled, plan->takes_ids, plan->dimensions, context->profile,
                 context->rows, context->tokens, context->ids, context->mask, context->out, context->memory, stream))
    return true;
  char text[200];
  snprintf(text, sizeof text, "IExecutionContext::enqueueV3: Error Code 1: Myelin ([%s])",
           missing == NULL ? "the test said so" : missing);
  say(1, text);
  return false;
}
