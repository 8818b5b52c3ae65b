// The log of calls: for each kind and name, how many calls there were and the sum of their amounts. counters.py reads it.
#include "core.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUM_SLOTS (1u << 17)

struct entry {
  const char *name;
  uint64_t kind, calls, amount;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry entries[NUM_SLOTS / 2];
static uint32_t num_entries;
static uint32_t entry_slots[NUM_SLOTS];  // index of an entry + 1; 0 where the slot is free
static const char *names[NUM_SLOTS];
static uint32_t num_names;
static void (*wait_hook)(const char *name);

static void fail(const char *what) {
  fprintf(stderr, "null device: the table of %s is full.\n", what);
  abort();
}

// Return the entry of a kind and name, a new one where there is none. Called with the lock held.
static struct entry *entry_of(enum null_kind kind, const char *name) {
  uint64_t hash = ((uint64_t)(uintptr_t)name + kind) * 0x9E3779B97F4A7C15ull;
  for (uint32_t slot = (uint32_t)(hash >> 40) % NUM_SLOTS;; slot = (slot + 1) % NUM_SLOTS) {
    if (entry_slots[slot] == 0) {
      if (num_entries == NUM_SLOTS / 2) fail("calls");
      entries[num_entries] = (struct entry){.name = name, .kind = kind};
      entry_slots[slot] = ++num_entries;
    }
    struct entry *entry = &entries[entry_slots[slot] - 1];
    if (entry->name == name && entry->kind == kind) return entry;
  }
}

API void null_count(enum null_kind kind, const char *name, uint64_t amount) {
  pthread_mutex_lock(&lock);
  struct entry *entry = entry_of(kind, name);
  entry->calls++;
  entry->amount += amount;
  pthread_mutex_unlock(&lock);
}

API void null_wait(const char *name) {
  null_count(WAIT, name, 0);
  if (wait_hook != NULL) wait_hook(name);
}

API const char *null_name(const char *text) {
  uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char *byte = text; *byte; byte++) hash = (hash ^ (unsigned char)*byte) * 1099511628211ull;
  pthread_mutex_lock(&lock);
  uint32_t slot = (uint32_t)(hash >> 32) % NUM_SLOTS;
  while (names[slot] != NULL && strcmp(names[slot], text) != 0) slot = (slot + 1) % NUM_SLOTS;
  if (names[slot] == NULL) {
    if (++num_names > NUM_SLOTS / 2) fail("names");
    names[slot] = strdup(text);
  }
  const char *name = names[slot];
  pthread_mutex_unlock(&lock);
  return name;
}

API void *null_handle(void) {
  static uintptr_t last = 0x1000;
  return (void *)__atomic_add_fetch(&last, 16, __ATOMIC_RELAXED);
}

// ---- for counters.py

API void null_set_wait_hook(void (*hook)(const char *name)) { wait_hook = hook; }

API const struct entry *null_entries(uint32_t *count) {
  *count = num_entries;
  return entries;
}
