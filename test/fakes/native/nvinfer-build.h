/* What a build gives in mode "describe": a plan that describes itself as nvinfer-execution.h reads it, with the settings it
 * was built with on a line behind the profiles. Timing caches then hold what they were given, and each build adds to its own. */
#define MAX_PROFILES 16
typedef struct { long long d[6]; } Shapes;

static Shapes built_profiles[MAX_PROFILES];
static int built_profile_count, build_count;
static const char *layers = "{\"Layers\": []}";
/* The inspector's words for every engine from now on; the text is kept. */
void fake_layers(const char *json) { layers = strdup(json); }
int fake_builds(void) { return build_count; }

/* For tests that watch other processes: a line a build in the file that FAKE_NVINFER_BUILDS names. */
static void note_build(void) {
  const char *path = getenv("FAKE_NVINFER_BUILDS");
  FILE *file = path == NULL ? NULL : fopen(path, "a");
  if (file == NULL) return;
  fprintf(file, "build by %d\n", (int)getpid());
  fclose(file);
}

static char *text_of(const char *format, ...) {
  char text[4000];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  return strdup(text);
}

/* An optimization profile: batch and tokens of the first input, min opt max each. */
static void keep_shape(Object *profile, const char *input, int selector, const Dims *dims) {
  if (profile->data == NULL) profile->data = calloc(1, sizeof(Shapes));
  if (strcmp(input, "input_ids") != 0) return;
  Shapes *shapes = profile->data;
  shapes->d[selector] = dims->d[0];
  shapes->d[3 + selector] = dims->d[1];
}
static void keep_profile(Object *profile) {
  if (profile->data != NULL && built_profile_count < MAX_PROFILES) {
    built_profiles[built_profile_count++] = *(Shapes *)profile->data;
  }
}

static char *describe_build(int level, size_t workspace, uint32_t tactics) {
  const char *dimensions = getenv("FAKE_NVINFER_DIMENSIONS");
  char *text = text_of("fakeplan %s ids %s 4096\n", mode.describe == 2 ? "tokens" : "pooled",
                       dimensions == NULL ? "384" : dimensions);
  for (int i = 0; i < built_profile_count; i++) {
    const long long *d = built_profiles[i].d;
    char *longer = text_of("%s%lld %lld %lld %lld %lld %lld\n", text, d[0], d[1], d[2], d[3], d[4], d[5]);
    free(text);
    text = longer;
  }
  char *whole = text_of("%slevel %d workspace %zu tactics %u build %d\n", text, level, workspace, tactics, build_count);
  free(text);
  return whole;
}
