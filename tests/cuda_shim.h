// What ops/csrc/cuda.cu needs of CUDA, for a C++ compiler on a CPU; tests/cuda_kernels.py puts this in the place of CUDA's headers.
//
// Blocks run one after another. Each thread of a block is a fiber with a stack of its own, so that a thread that waits at a barrier
// or in a shuffle lets the others run. What is undefined on a GPU ends the program with a message: a barrier or a shuffle that a
// thread of the block or warp does not reach. Shared memory is filled with 0xff when a block begins. Only what the kernels use is
// here: grids and blocks of one dimension, __syncthreads, __shfl_down_sync over whole warps, and the two half types.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)  // it has to be told of each change of stacks
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
#else
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

using std::exp, std::expm1, std::log1p, std::sqrt, std::tanh;
using cudaStream_t = void*;
enum { cudaSuccess, cudaErrorInvalidValue };

namespace shim {

enum State { READY, AT_BARRIER, IN_SHUFFLE, FINISHED };

constexpr size_t STACK = 1 << 17;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(STACK);
  void* fake_stack = nullptr;
  State state = READY;
  double value = 0;    // given to a shuffle, and then its result
  unsigned delta = 0;  // how far away the lane is whose value the shuffle gives
};

inline std::vector<Fiber> fibers(1024);
inline ucontext_t scheduler;
inline const void* main_stack;
inline size_t main_size;
inline unsigned now, block, blocks, threads;
inline bool backwards = false;  // the order in which threads and blocks run, which must not matter
inline const std::function<void()>* body;

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "cuda_shim: block %u: %s\n", block, what);
  abort();
}

inline void leave(State state) {  // the fiber that runs, for the scheduler
  Fiber& self = fibers[now];
  self.state = state;
  __sanitizer_start_switch_fiber(state == FINISHED ? nullptr : &self.fake_stack, main_stack, main_size);
  swapcontext(&self.context, &scheduler);
  __sanitizer_finish_switch_fiber(self.fake_stack, &main_stack, &main_size);
}

inline void run_thread() {
  __sanitizer_finish_switch_fiber(nullptr, &main_stack, &main_size);
  (*body)();
  leave(FINISHED);
}

inline void enter(unsigned thread) {
  void* fake_stack = nullptr;
  now = thread;
  __sanitizer_start_switch_fiber(&fake_stack, fibers[thread].stack.data(), STACK);
  swapcontext(&scheduler, &fibers[thread].context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

inline bool exchange(unsigned warp) {  // a shuffle's values, if all lanes of the warp are there
  Fiber* lanes = &fibers[warp * 32];
  double values[32];
  for (unsigned i = 0; i < 32; i++) {
    if (lanes[i].state != IN_SHUFFLE) return false;
    values[i] = lanes[i].value;
  }
  for (unsigned i = 0; i < 32; i++) {
    lanes[i].value = values[i + lanes[i].delta < 32 ? i + lanes[i].delta : i];
    lanes[i].state = READY;
  }
  return true;
}

inline void run_block() {
  for (unsigned i = 0; i < threads; i++) {
    Fiber& f = fibers[i];
    f.state = READY;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, run_thread, 0);
  }
  while (true) {
    unsigned counts[4] = {};
    for (unsigned i = 0; i < threads; i++) {
      const unsigned thread = backwards ? threads - 1 - i : i;
      if (fibers[thread].state == READY) enter(thread);
    }
    bool moved = false;
    for (unsigned warp = 0; warp < threads / 32; warp++) moved = exchange(warp) || moved;
    if (moved) continue;
    for (unsigned i = 0; i < threads; i++) counts[fibers[i].state]++;
    if (counts[FINISHED] == threads) return;
    if (counts[IN_SHUFFLE]) fail("a shuffle waits for lanes that do not take part");
    if (counts[AT_BARRIER] != threads) fail("a barrier waits for threads that have ended");
    for (unsigned i = 0; i < threads; i++) fibers[i].state = READY;
  }
}

extern "C" char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));

inline void launch(int grid, int block_size, size_t, cudaStream_t, const std::function<void()>& kernel) {
  if (grid < 1 || block_size % 32 || block_size > int(fibers.size())) fail("a launch with wrong dimensions");
  body = &kernel, blocks = grid, threads = block_size;
  for (unsigned i = 0; i < blocks; i++) {
    block = backwards ? blocks - 1 - i : i;
    for (volatile char* p = __start_shared_memory; p < __stop_shared_memory; p++) *p = char(0xff);
    run_block();
  }
}

inline void barrier() { leave(AT_BARRIER); }

template <class T> T shuffle_down(unsigned mask, T value, unsigned delta) {
  if (mask != 0xffffffffu) fail("a shuffle of a part of a warp");
  Fiber& self = fibers[now];
  self.value = double(value), self.delta = delta;
  leave(IN_SHUFFLE);
  return T(self.value);
}

struct Index {
  unsigned x;
};

}  // namespace shim

extern "C" inline __attribute__((used, visibility("default"))) void shim_backwards(int yes) { shim::backwards = yes; }

#define __device__
#define __global__
#define __shared__ static __attribute__((section("shared_memory")))
#define threadIdx (shim::Index{shim::now})
#define blockIdx (shim::Index{shim::block})
#define gridDim (shim::Index{shim::blocks})
#define __syncthreads shim::barrier
#define __shfl_down_sync shim::shuffle_down
#define cudaGetLastError() cudaSuccess

// The half types: the nearest number, and of two that are as near the even one.

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };

inline float __half2float(__half h) {
  const int exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
  const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(float(fraction), -24) : std::ldexp(float(1024 + fraction), exponent - 25);
  return h.bits >> 15 ? -size : size;
}

inline __half __float2half(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return {uint16_t(sign | 0x7e00)};
  const float size = std::fabs(x);
  const int exponent = size < std::ldexp(1.f, -14) ? -14 : std::isinf(size) ? 16 : std::ilogb(size);
  const int steps = exponent > 15 ? 2048 : int(std::nearbyint(std::ldexp(size, 10 - exponent)));  // of 2^(exponent - 10)
  const int bits = ((exponent + 14) << 10) + steps;  // a carry into the exponent comes out right
  return {uint16_t(sign | (bits > 0x7c00 ? 0x7c00 : bits))};
}

inline float __bfloat162float(__nv_bfloat16 b) {
  const uint32_t bits = uint32_t(b.bits) << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

inline __nv_bfloat16 __float2bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof x);
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
