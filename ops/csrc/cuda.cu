// The operations of this folder on a CUDA GPU: plain C functions over raw pointers and a stream, without any header of torch.
// ops/native.py calls them; the mathematics stands in the Python files beside, and in cpu.cpp once more.
//
// Half precisions are computed in float32. Indices are 64 bits wide wherever a tensor's size enters.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace {

enum Act { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

template <class T> struct Math { using type = float; };
template <> struct Math<double> { using type = double; };

__device__ inline float up(float x) { return x; }
__device__ inline double up(double x) { return x; }
__device__ inline float up(__half x) { return __half2float(x); }
__device__ inline float up(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T> __device__ inline T down(typename Math<T>::type x);
template <> __device__ inline float down<float>(float x) { return x; }
template <> __device__ inline double down<double>(double x) { return x; }
template <> __device__ inline __half down<__half>(float x) { return __float2half(x); }
template <> __device__ inline __nv_bfloat16 down<__nv_bfloat16>(float x) { return __float2bfloat16(x); }

template <class T> __device__ inline T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }

// The ORDER-th derivative of an activation at u.
template <int ORDER, class T> __device__ inline T activation(int act, T u, T alpha) {
  const T selu_alpha = T(1.6732632423543772848170429916717), selu_scale = T(1.0507009873554804934193349852946);
  switch (act) {
    case LINEAR: return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
    case RELU: return ORDER == 0 ? (u > 0 ? u : T(0)) : ORDER == 1 ? (u > 0 ? T(1) : T(0)) : T(0);
    case LRELU: return ORDER == 0 ? (u > 0 ? u : u * alpha) : ORDER == 1 ? (u > 0 ? T(1) : alpha) : T(0);
    case TANH: {
      const T t = tanh(u);
      return ORDER == 0 ? t : ORDER == 1 ? 1 - t * t : -2 * t * (1 - t * t);
    }
    case SIGMOID: {
      const T s = sigmoid(u);
      return ORDER == 0 ? s : ORDER == 1 ? s * (1 - s) : s * (1 - s) * (1 - 2 * s);
    }
    case ELU:
      if (u > 0) return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
      return ORDER == 0 ? expm1(u) : exp(u);
    case SELU:
      if (u > 0) return ORDER == 0 ? selu_scale * u : ORDER == 1 ? selu_scale : T(0);
      return selu_scale * selu_alpha * (ORDER == 0 ? expm1(u) : exp(u));
    case SOFTPLUS: {
      if (ORDER == 0) return (u > 0 ? u : T(0)) + log1p(exp(u > 0 ? -u : u));
      const T s = sigmoid(u);
      return ORDER == 1 ? s : s * (1 - s);
    }
    default: {
      const T s = sigmoid(u);
      return ORDER == 0 ? u * s : ORDER == 1 ? s + u * s * (1 - s) : s * (1 - s) * (2 + u * (1 - 2 * s));
    }
  }
}

template <int ORDER, class T> __device__ inline T element(int act, T factor, T u, T alpha, T gain, T clamp) {
  const T y = gain * activation<0>(act, u, alpha);
  if (ORDER == 0) return y > clamp ? clamp : y < -clamp ? -clamp : y;
  return (y < 0 ? -y : y) <= clamp ? factor * gain * activation<ORDER>(act, u, alpha) : T(0);
}

// What bias_act reads besides x, and the shape (n, c, p).
template <class T> struct Given {
  const T *x, *bias, *noise, *scale;
  int64_t noise_n, n, c, p;
  bool last;
  int act;
  typename Math<T>::type alpha, gain, clamp;

  __device__ inline typename Math<T>::type u(typename Math<T>::type value, int64_t n_, int64_t c_, int64_t p_) const {
    using M = typename Math<T>::type;
    M result = scale ? value * up(scale[n_ * c + c_]) : value;
    if (noise) result += up(noise[(noise_n > 1 ? n_ : 0) * p + p_]);
    return bias ? result + up(bias[c_]) : result;
  }
};

constexpr int THREADS = 256;

template <class T, int COUNT> struct alignas(sizeof(T) * COUNT) Pack { T at[COUNT]; };

// COUNT neighbours per thread, which share picture and channel (contiguous) or picture and position (channels-last).
template <class T, int ORDER, int COUNT> __global__ void bias_act_kernel(const T* factor, T* y, Given<T> o) {
  using M = typename Math<T>::type;
  const int64_t packs = o.n * o.c * o.p / COUNT, inner = (o.last ? o.c : o.p) / COUNT;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < packs; i += int64_t(gridDim.x) * THREADS) {
    const int64_t line = i / inner, from = (i - line * inner) * COUNT;
    const int64_t n = o.last ? line / o.p : line / o.c, other = line - n * (o.last ? o.p : o.c);
    const Pack<T, COUNT> x = reinterpret_cast<const Pack<T, COUNT>*>(o.x)[i];
    Pack<T, COUNT> m, out;
    if (ORDER) m = reinterpret_cast<const Pack<T, COUNT>*>(factor)[i];
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
      const M u = o.last ? o.u(up(x.at[k]), n, from + k, other) : o.u(up(x.at[k]), n, other, from + k);
      out.at[k] = down<T>(element<ORDER>(o.act, ORDER ? M(up(m.at[k])) : M(1), u, o.alpha, o.gain, o.clamp));
    }
    reinterpret_cast<Pack<T, COUNT>*>(y)[i] = out;
  }
}

__device__ inline double summed(double x, double* shared) {  // over the block; the result is in thread 0
  for (int k = 16; k; k >>= 1) x += __shfl_down_sync(0xffffffffu, x, k);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  if (threadIdx.x < 32) {
    x = threadIdx.x < THREADS / 32 ? shared[threadIdx.x] : 0.0;
    for (int k = 16; k; k >>= 1) x += __shfl_down_sync(0xffffffffu, x, k);
  }
  return x;
}

// dx and, for each plane, the sums over one of `parts` stretches of it: dbias and dscale are (parts, n, c).
template <class T> __global__ void backward_planes(const T* g, T* dx, double* dbias, double* dscale, Given<T> o, int64_t parts) {
  using M = typename Math<T>::type;
  __shared__ double shared[THREADS / 32];
  for (int64_t job = blockIdx.x; job < o.n * o.c * parts; job += gridDim.x) {
    const int64_t plane = job / parts, part = job % parts, n = plane / o.c, c = plane % o.c;
    const M s = o.scale ? M(up(o.scale[plane])) : M(1);
    double sum = 0, along = 0;
    const int64_t end = (part + 1) * o.p / parts;
    for (int64_t i = part * o.p / parts + threadIdx.x; i < end; i += THREADS) {
      const int64_t at = plane * o.p + i;
      const M x = up(o.x[at]), du = element<1>(o.act, M(up(g[at])), o.u(x, n, c, i), o.alpha, o.gain, o.clamp);
      if (dx) dx[at] = down<T>(du * s);
      sum += du;
      along += double(du) * x;
    }
    if (dbias) {
      sum = summed(sum, shared);
      if (threadIdx.x == 0) dbias[part * o.n * o.c + plane] = sum;
    }
    if (dscale) {
      along = summed(along, shared);
      if (threadIdx.x == 0) dscale[part * o.n * o.c + plane] = along;
    }
  }
}

// The same for channels-last: a thread has a channel, a block a stretch of one picture's positions.
template <class T> __global__ void backward_rows(const T* g, T* dx, double* dbias, double* dscale, Given<T> o, int64_t parts) {
  using M = typename Math<T>::type;
  const int64_t columns = (o.c + THREADS - 1) / THREADS;
  for (int64_t job = blockIdx.x; job < o.n * columns * parts; job += gridDim.x) {
    const int64_t part = job % parts, n = job / parts / columns, c = job / parts % columns * THREADS + threadIdx.x;
    if (c >= o.c) continue;
    const M s = o.scale ? M(up(o.scale[n * o.c + c])) : M(1);
    double sum = 0, along = 0;
    for (int64_t i = part * o.p / parts; i < (part + 1) * o.p / parts; i++) {
      const int64_t at = (n * o.p + i) * o.c + c;
      const M x = up(o.x[at]), du = element<1>(o.act, M(up(g[at])), o.u(x, n, c, i), o.alpha, o.gain, o.clamp);
      if (dx) dx[at] = down<T>(du * s);
      sum += du;
      along += double(du) * x;
    }
    if (dbias) dbias[(part * o.n + n) * o.c + c] = sum;
    if (dscale) dscale[(part * o.n + n) * o.c + c] = along;
  }
}

template <class T> __global__ void backward_noise(const T* g, T* dnoise, Given<T> o) {  // a thread per position, summing channels
  using M = typename Math<T>::type;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < o.n * o.p; i += int64_t(gridDim.x) * THREADS) {
    const int64_t n = i / o.p, p = i % o.p;
    M sum = 0;
    for (int64_t c = 0; c < o.c; c++) {
      const int64_t at = o.last ? i * o.c + c : (n * o.c + c) * o.p + p;
      sum += element<1>(o.act, M(up(g[at])), o.u(up(o.x[at]), n, c, p), o.alpha, o.gain, o.clamp);
    }
    dnoise[i] = down<T>(sum);
  }
}

struct Fir {
  int64_t planes, h, w, inner, oh, ow;
  int64_t fh, fw, up, down, left, top;
};

constexpr int MOST_TAPS = 1024;

// One output pixel per thread; neighbouring threads read neighbouring pixels, which the cache then has.
template <class T> __global__ void upfirdn2d_kernel(const T* x, const typename Math<T>::type* f, T* y, Fir o) {
  using M = typename Math<T>::type;
  __shared__ M taps[MOST_TAPS];
  for (int k = threadIdx.x; k < o.fh * o.fw; k += THREADS) taps[k] = f[k];
  __syncthreads();
  const int64_t count = o.planes * o.oh * o.ow * o.inner;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < count; i += int64_t(gridDim.x) * THREADS) {
    const int64_t c = i % o.inner, pixel = i / o.inner, px = pixel % o.ow, row = pixel / o.ow, py = row % o.oh, plane = row / o.oh;
    const T* in = x + plane * o.h * o.w * o.inner + c;
    M sum = 0;
    for (int64_t ky = 0; ky < o.fh; ky++) {
      const int64_t fy = py * o.down + ky - o.top;
      if (fy < 0 || fy % o.up || fy / o.up >= o.h) continue;
      for (int64_t kx = 0; kx < o.fw; kx++) {
        const int64_t fx = px * o.down + kx - o.left;
        if (fx < 0 || fx % o.up || fx / o.up >= o.w) continue;
        sum += taps[ky * o.fw + kx] * up(in[(fy / o.up * o.w + fx / o.up) * o.inner]);
      }
    }
    y[i] = down<T>(sum);
  }
}

// No resampling, contiguous planes, four by four taps, as after each enlarging convolution: a thread slides down a column of
// ROWS pixels, and keeps the four rows under the filter in registers.
template <class T, int ROWS> __global__ void fir4_kernel(const T* x, const typename Math<T>::type* f, T* y, Fir o) {
  using M = typename Math<T>::type;
  M t[16];
#pragma unroll
  for (int k = 0; k < 16; k++) t[k] = f[k];
  const int64_t stripes = (o.oh + ROWS - 1) / ROWS, across = (o.ow + 31) / 32 * 32;
  const int64_t count = o.planes * stripes * across;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < count; i += int64_t(gridDim.x) * THREADS) {
    const int64_t px = i % across, stripe = i / across % stripes, plane = i / across / stripes;
    if (px >= o.ow) continue;
    const T* in = x + plane * o.h * o.w;
    M v[4][4];
    const int64_t first = stripe * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS + 3; r++) {
      const int64_t fy = first + r - o.top;
      M row[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int64_t fx = px + k - o.left;
        row[k] = fy >= 0 && fy < o.h && fx >= 0 && fx < o.w ? M(up(in[fy * o.w + fx])) : M(0);
      }
#pragma unroll
      for (int k = 0; k < 4; k++) v[r % 4][k] = row[k];
      if (r >= 3 && first + r - 3 < o.oh) {
        M sum = 0;
#pragma unroll
        for (int a = 0; a < 4; a++)
#pragma unroll
          for (int k = 0; k < 4; k++) sum += t[a * 4 + k] * v[(r + 1 + a) % 4][k];
        y[(plane * o.oh + first + r - 3) * o.ow + px] = down<T>(sum);
      }
    }
  }
}

template <class T> __global__ void pixel_norm_kernel(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, bool last,
                                                     typename Math<T>::type eps) {
  using M = typename Math<T>::type;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < n * p; i += int64_t(gridDim.x) * THREADS) {
    const int64_t step = last ? 1 : p, base = last ? i * c : i / p * c * p + i % p;
    M squares = 0, along = 0;
    for (int64_t k = 0; k < c; k++) {
      const M v = up(x[base + k * step]);
      squares += v * v;
      if (g) along += v * M(up(g[base + k * step]));
    }
    const M r = M(1) / sqrt(squares / c + eps);
    along *= r * r / c;
    for (int64_t k = 0; k < c; k++) {
      const int64_t at = base + k * step;
      y[at] = down<T>(g ? r * (M(up(g[at])) - M(up(x[at])) * along) : M(up(x[at])) * r);
    }
  }
}

int blocks(int64_t jobs) {  // enough to fill any GPU; the kernels go round
  const int64_t wanted = (jobs + THREADS - 1) / THREADS;
  return int(wanted < 1 ? 1 : wanted > 65536 ? 65536 : wanted);
}

template <class T, int ORDER> void bias_act_launch(const T* factor, T* y, const Given<T>& o, cudaStream_t stream) {
  constexpr int MOST = 16 / sizeof(T);
  const int64_t inner = o.last ? o.c : o.p, count = o.n * o.c * o.p;
  const uintptr_t address = uintptr_t(o.x) | uintptr_t(y) | uintptr_t(factor);
  if (inner % MOST == 0 && address % 16 == 0)
    bias_act_kernel<T, ORDER, MOST><<<blocks(count / MOST), THREADS, 0, stream>>>(factor, y, o);
  else
    bias_act_kernel<T, ORDER, 1><<<blocks(count), THREADS, 0, stream>>>(factor, y, o);
}

}  // namespace

#define FUNCTIONS(T, NAME)                                                                                                       \
  extern "C" int bias_act_##NAME##_cuda(int64_t order, const T* factor, const T* x, const T* bias, const T* noise,               \
                                        int64_t noise_n, const T* scale, T* y, int64_t n, int64_t c, int64_t p, int64_t last,    \
                                        int64_t act, double alpha, double gain, double clamp, cudaStream_t stream) {             \
    using M = Math<T>::type;                                                                                                     \
    const Given<T> o{x, bias, noise, scale, noise_n, n, c, p, last != 0, int(act), M(alpha), M(gain), M(clamp)};                 \
    if (order == 0) bias_act_launch<T, 0>(factor, y, o, stream);                                                                 \
    if (order == 1) bias_act_launch<T, 1>(factor, y, o, stream);                                                                 \
    if (order == 2) bias_act_launch<T, 2>(factor, y, o, stream);                                                                 \
    return int(cudaGetLastError());                                                                                              \
  }                                                                                                                              \
  extern "C" int bias_act_backward_##NAME##_cuda(                                                                                \
      const T* g, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* dx, double* dbias,              \
      double* dscale, T* dnoise, int64_t parts, int64_t n, int64_t c, int64_t p, int64_t last, int64_t act, double alpha,        \
      double gain, double clamp, cudaStream_t stream) {                                                                          \
    using M = Math<T>::type;                                                                                                     \
    const Given<T> o{x, bias, noise, scale, noise_n, n, c, p, last != 0, int(act), M(alpha), M(gain), M(clamp)};                 \
    if (dx || dbias || dscale) {                                                                                                 \
      const int64_t jobs = last ? n * ((c + THREADS - 1) / THREADS) * parts : n * c * parts;                                     \
      const int grid = int(jobs > 65536 ? 65536 : jobs);                                                                         \
      if (last)                                                                                                                  \
        backward_rows<T><<<grid, THREADS, 0, stream>>>(g, dx, dbias, dscale, o, parts);                                          \
      else                                                                                                                       \
        backward_planes<T><<<grid, THREADS, 0, stream>>>(g, dx, dbias, dscale, o, parts);                                        \
    }                                                                                                                            \
    if (dnoise) backward_noise<T><<<blocks(n * p), THREADS, 0, stream>>>(g, dnoise, o);                                          \
    return int(cudaGetLastError());                                                                                              \
  }                                                                                                                              \
  extern "C" int upfirdn2d_full_##NAME##_cuda(const T* x, const Math<T>::type* f, T* y, int64_t planes, int64_t h, int64_t w,    \
                                              int64_t inner, int64_t oh, int64_t ow, int64_t fh, int64_t fw, int64_t up,         \
                                              int64_t down, int64_t left, int64_t top, cudaStream_t stream) {                    \
    const Fir o{planes, h, w, inner, oh, ow, fh, fw, up, down, left, top};                                                       \
    if (fh * fw > MOST_TAPS) return int(cudaErrorInvalidValue);                                                                  \
    if (fh == 4 && fw == 4 && up == 1 && down == 1 && inner == 1)                                                                \
      fir4_kernel<T, 8><<<blocks(planes * ((oh + 7) / 8) * ((ow + 31) / 32 * 32)), THREADS, 0, stream>>>(x, f, y, o);            \
    else                                                                                                                         \
      upfirdn2d_kernel<T><<<blocks(planes * oh * ow * inner), THREADS, 0, stream>>>(x, f, y, o);                                 \
    return int(cudaGetLastError());                                                                                              \
  }                                                                                                                              \
  extern "C" int pixel_norm_##NAME##_cuda(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, int64_t last,           \
                                          double eps, cudaStream_t stream) {                                                     \
    pixel_norm_kernel<T><<<blocks(n * p), THREADS, 0, stream>>>(x, g, y, n, c, p, last != 0, Math<T>::type(eps));                \
    return int(cudaGetLastError());                                                                                              \
  }

FUNCTIONS(float, f32)
FUNCTIONS(double, f64)
FUNCTIONS(__half, f16)
FUNCTIONS(__nv_bfloat16, bf16)
