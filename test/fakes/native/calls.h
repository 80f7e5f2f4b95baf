/* A log of calls that a test reads, shared by the fake libraries. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char calls[1 << 16];

const char *fake_calls(void) { return calls; }
void fake_clear(void) { calls[0] = 0; }

static void log_call(const char *name, const char *format, ...) {
  size_t used = strlen(calls);
  if (used > sizeof calls - 512) return; /* full: what comes later is not kept */
  va_list values;
  va_start(values, format);
  used += snprintf(calls + used, sizeof calls - used, "%s ", name);
  used += vsnprintf(calls + used, sizeof calls - used, format, values);
  va_end(values);
  snprintf(calls + used, sizeof calls - used, "\n");
}
