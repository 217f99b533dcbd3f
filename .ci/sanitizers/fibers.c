/* Tells ThreadSanitizer which stack a thread is on.
 *
 * corosensei's feature `sanitizer` announces each switch through AddressSanitizer's interface: `start` on the stack that
 * is left, `finish` on the one that was switched to, which learns from it which one was left. ThreadSanitizer's runtime has
 * another interface, of fibers, and does not define these names; so they are defined here, on top of it.
 *
 * corosensei names a stack by the pair (bottom, size). It takes the first pair of a stack from the stack itself; all
 * later ones are what `finish` has said. So a pair with a size is a stack's first switch, and one without a size is
 * a fiber that was announced here.
 *
 * `.ci/sanitize` compiles this without instrumentation: a function that is entered on one fiber and left on another
 * must not be counted on either. For the same reason a new fiber has one frame too many: corosensei's own `start_switch`
 * returns on it when nothing was inlined.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_set_fiber_name(void *fiber, const char *name);
void __tsan_func_entry(void *pc);

/* The fiber of each stack that was ever switched to, by the stack's bottom: an open hash table. A stack keeps its place
 * when its fiber goes, so the table never shrinks; stacks are never unmapped, and are used again. */
#define PLACES (1u << 18)
struct place {
  const void *bottom;
  void *fiber;
};
static struct place table[PLACES];
static unsigned used;
static int table_lock;

static void lock(void) {
  while (__atomic_exchange_n(&table_lock, 1, __ATOMIC_ACQUIRE))
    ;
}

static void unlock(void) { __atomic_store_n(&table_lock, 0, __ATOMIC_RELEASE); }

/* The place of a stack, under the lock. */
static struct place *place_of(const void *bottom) {
  uintptr_t at = ((uintptr_t)bottom >> 12) * 0x9e3779b97f4a7c15u >> 40;
  for (;; at++) {
    struct place *p = &table[at % PLACES];
    if (p->bottom == bottom) return p;
    if (!p->bottom) {
      if (++used > PLACES / 2) {
        fputs("fibers.c: too many stacks\n", stderr);
        abort();
      }
      p->bottom = bottom;
      return p;
    }
  }
}

/* The fiber that the thread is about to leave, for `finish` on the same thread. */
static __thread void *left;

void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size) {
  void *to = (void *)bottom;
  (void)save;
  left = __tsan_get_current_fiber();
  if (size) {
    void *old;
    to = __tsan_create_fiber(0);
    __tsan_set_fiber_name(to, "goroutines");
    lock();
    struct place *p = place_of(bottom);
    old = p->fiber;
    p->fiber = to;
    unlock();
    if (old) __tsan_destroy_fiber(old);
  }
  /* Flags 0: what follows on the new stack happens after what went before on this thread. */
  __tsan_switch_to_fiber(to, 0);
  if (size) __tsan_func_entry(__builtin_return_address(0));
}

void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size) {
  (void)save;
  if (bottom) *bottom = left;
  if (size) *size = 0;
}

/* Nobody is on this stack any more. */
void __asan_unpoison_memory_region(const void *bottom, size_t size) {
  void *fiber;
  (void)size;
  lock();
  struct place *p = place_of(bottom);
  fiber = p->fiber;
  p->fiber = NULL;
  unlock();
  if (fiber) __tsan_destroy_fiber(fiber);
}

/* What std does out of sight.
 *
 * The std that comes with the compiler is not instrumented. Its generic and inlined functions are, since they are compiled
 * with the code that uses them; but where one half of a pair is inlined and the other is not, ThreadSanitizer sees half
 * a synchronisation. These pairs are completed here: the linker (`--wrap`) puts these functions in the place of std's,
 * whose names `.ci/sanitize` looks up. Each adds the edge that the original has.
 */
void __tsan_acquire(void *at);
void __tsan_release(void *at);

#define CAT(a, b) a##b
#define NAME(prefix, name) CAT(prefix, name)

/* `Mutex::lock` when somebody holds it: it is taken with Acquire on the one word that the mutex is. */
void NAME(__real_, STD_LOCK_CONTENDED)(void *mutex);
void NAME(__wrap_, STD_LOCK_CONTENDED)(void *mutex) {
  NAME(__real_, STD_LOCK_CONTENDED)(mutex);
  __tsan_acquire(mutex);
}

/* The end of a thread of `thread::scope`: the count of threads goes down with Release. The count is one of the three words
 * of the structure, and nothing is acquired from the other two. */
void NAME(__real_, STD_SCOPE_THREAD_ENDS)(char *scope, _Bool panicked);
void NAME(__wrap_, STD_SCOPE_THREAD_ENDS)(char *scope, _Bool panicked) {
  for (int word = 0; word < 3; word++) __tsan_release(scope + word * sizeof(void *));
  NAME(__real_, STD_SCOPE_THREAD_ENDS)(scope, panicked);
}

/* `Arc`: whoever takes the count to zero makes an acquire fence before it drops the value, and fences are not understood.
 * So taking away from a count acquires as well as it releases. This is more than the original has for all who are not the
 * last, and for subtractions of 64 bits with Release that are not an Arc's. */
int64_t __real___tsan_atomic64_fetch_sub(volatile void *at, int64_t n, int order);
int64_t __wrap___tsan_atomic64_fetch_sub(volatile void *at, int64_t n, int order) {
  return __real___tsan_atomic64_fetch_sub(at, n, order == __ATOMIC_RELEASE ? __ATOMIC_ACQ_REL : order);
}
